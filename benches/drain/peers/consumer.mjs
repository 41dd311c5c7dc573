// npm sqs-consumer with batch handling and CONCURRENCY consumers.
import { Consumer } from "sqs-consumer";
import { counts, finish, post, settings, sqs } from "./common.mjs";

for (let index = 0; index < settings.concurrency; index += 1) {
  const consumer = Consumer.create({
    queueUrl: settings.queueUrl,
    sqs,
    batchSize: 10,
    waitTimeSeconds: 1,
    pollingWaitTimeMs: 0,
    handleMessageBatch: async (messages) => {
      await post(messages.map((message) => message.Body));
      return messages;
    },
  });
  consumer.on("error", (error) => { throw error; });
  consumer.on("processing_error", (error) => { throw error; });
  consumer.on("response_processed", () => {
    if (counts.messages >= settings.messages) finish();
  });
  consumer.on("message_processed", () => { counts.messages += 1; });
  consumer.start();
}
