// Shared by both peers: a queue client with persistent connections, and a post that retries with backoff after a 429.
// Usage: node PEER ENDPOINT QUEUE-URL SINK-URL MESSAGES CONCURRENCY
import { SQSClient } from "@aws-sdk/client-sqs";

const [endpoint, queueUrl, sinkUrl, messages, concurrency] = process.argv.slice(2);
export const settings = { queueUrl, messages: Number(messages), concurrency: Number(concurrency) };
export const counts = { messages: 0, sqs: 0, iterable: 0 };

export const sqs = new SQSClient({
  endpoint,
  region: "us-east-1",
  credentials: { accessKeyId: "test", secretAccessKey: "test" },
});
sqs.middlewareStack.add((next) => (request) => { counts.sqs += 1; return next(request); }, { step: "finalizeRequest" });

// A minimal mapping: the events with their user, name and ID.
function events(body) {
  const batch = JSON.parse(body);
  const email = batch.user_identities.find((identity) => identity.identity_type === "email").identity;
  return batch.events.map(({ data }) => ({
    email,
    eventName: data.screen_name ?? data.event_name,
    id: data.source_message_id,
    createdAt: Math.floor(data.timestamp_unixtime_ms / 1000),
    dataFields: data.custom_attributes,
  }));
}

export async function post(bodies) {
  const body = JSON.stringify({ events: bodies.flatMap(events) });
  for (let wait = 100; ; wait = Math.min(wait * 2, 2000)) {
    counts.iterable += 1;
    const answer = await fetch(`${sinkUrl}/api/events/trackBulk`, {
      method: "POST",
      headers: { "Api-Key": "test-key", "Content-Type": "application/json" },
      body,
    });
    const text = await answer.text();
    if (answer.status === 200 && JSON.parse(text).failCount === 0) return;
    if (answer.status !== 429) throw new Error(`${answer.status} ${text}`);
    await new Promise((resolve) => setTimeout(resolve, wait * Math.random()));
  }
}

const started = performance.now();
export function finish() {
  const mebibytes = process.resourceUsage().maxRSS / 1024;
  console.log(JSON.stringify({ ...counts, seconds: (performance.now() - started) / 1000, mebibytes }));
  process.exit(0);
}
