// Starts fauxqs on one address, with queue URLs that carry the address which the client called.
// Its own command line binds all addresses and puts host names into URLs that only some resolvers know.
import { buildApp } from "fauxqs";
import { SqsStore } from "./node_modules/fauxqs/dist/sqs/sqsStore.js";

const [host, port] = process.argv.slice(2);
const sqsStore = new SqsStore();
sqsStore.host = "";
const app = buildApp({ logger: false, stores: { sqsStore } });
console.log(`listening on ${await app.listen({ host, port: Number(port) })}`);
