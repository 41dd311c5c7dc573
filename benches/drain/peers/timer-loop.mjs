// The loop of a timer-started Lambda: receive ten, post, delete, repeat.
import { DeleteMessageBatchCommand, ReceiveMessageCommand } from "@aws-sdk/client-sqs";
import { counts, finish, post, settings, sqs } from "./common.mjs";

const { queueUrl: QueueUrl } = settings;
for (;;) {
  const { Messages = [] } = await sqs.send(new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10 }));
  if (Messages.length === 0) break;
  await post(Messages.map((message) => message.Body));
  const Entries = Messages.map((message, index) => ({ Id: String(index), ReceiptHandle: message.ReceiptHandle }));
  await sqs.send(new DeleteMessageBatchCommand({ QueueUrl, Entries }));
  counts.messages += Messages.length;
}
finish();
