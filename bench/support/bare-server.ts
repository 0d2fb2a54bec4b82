import { readFileSync } from "node:fs";
import Fastify from "fastify";

// What an API cannot be cheaper than: one route of plain Fastify that sends bytes it already has. Arguments: port, file with the body.
const [port, bodyPath] = process.argv.slice(2);
const body = readFileSync(bodyPath ?? "");
const app = Fastify();
app.get("/", (_request, reply) => reply.type("application/json; charset=utf-8").send(body));
await app.listen({ host: "127.0.0.1", port: Number(port) });
process.once("SIGTERM", () => void app.close());
