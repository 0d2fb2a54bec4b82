import { Duplex } from "node:stream";
import ssh2 from "ssh2";
import { openSshKey } from "./channel-keys.ts";
import { runRequest } from "./channel-request.ts";
import type { World } from "./world.ts";

const call = /BERTH-CHANNEL:([0-9a-f]{32})\n/;
const longestPreamble = 4096;

/**
 * Serves the guest's side of a channel port: a host calls with a number of its own, the guest answers with the same line, and from there on it is SSH
 * (docs/guest-protocol.md). A new call ends the conversation before.
 */
export function serveChannel(world: World, id: string, stream: Duplex): void {
  let heard = "";
  const listen = (chunk: Buffer) => {
    heard += chunk.toString("latin1");
    const match = call.exec(heard);
    if (!match) {
      heard = heard.slice(-longestPreamble);
      return;
    }
    stream.off("data", listen);
    stream.pause();
    const rest = Buffer.from(heard.slice(match.index + match[0].length), "latin1");
    if (rest.length > 0) stream.unshift(rest);
    void begin(match[1] ?? "").catch((error) => stream.destroy(error as Error));
  };

  const begin = async (nonce: string) => {
    const config = (await world.read(id))?.run?.config;
    if (!config) return void stream.destroy();
    stream.write(`\nBERTH-CHANNEL:${nonce}\n`);
    serveSsh(world, id, stream, config);
  };
  stream.on("data", listen);
}

function serveSsh(world: World, id: string, stream: Duplex, keys: { hostKey: string; clientPublicKey: string }): void {
  const allowed = ssh2.utils.parseKey(keys.clientPublicKey);
  if (allowed instanceof Error) return void stream.destroy(allowed);
  const server = new ssh2.Server({ hostKeys: [openSshKey(Buffer.from(keys.hostKey, "base64"))] });
  server.on("connection", (client) => {
    client.on("error", () => {});
    client.on("authentication", (request) => {
      const known = request.method === "publickey" && request.key.data.equals(allowed.getPublicSSH());
      if (!known) return request.reject(["publickey"]);
      // Without a signature the client only asks whether the key would do.
      if (!request.signature || !request.blob) return request.accept();
      if (allowed.verify(request.blob, request.signature, request.hashAlgo) === true) request.accept();
      else request.reject();
    });
    client.on("session", (accept) => {
      const session = accept();
      session.on("pty", (acceptPty) => acceptPty?.());
      session.on("window-change", (acceptChange) => acceptChange?.());
      session.on("exec", (acceptExec, _reject, { command }) => {
        const program = acceptExec();
        const ended = new AbortController();
        program.once("close", () => ended.abort());
        session.on("signal", (acceptSignal, _rejectSignal, { name }) => {
          acceptSignal?.();
          ended.abort(name);
        });
        void runRequest(world, id, command, program, ended.signal).then(
          (code) => {
            program.exit(code);
            program.end();
          },
          () => program.close(),
        );
      });
    });
  });
  // It treats what it is given as a socket; a duplex stream has all that it uses. Reading in turns of its own keeps an answer from arriving, within this
  // process, while the server is still sending what it answers.
  const socket = Duplex.from({ readable: readInTurns(stream), writable: stream });
  socket.on("error", () => {});
  server.injectSocket(socket as unknown as Parameters<typeof server.injectSocket>[0]);
}

async function* readInTurns(stream: Duplex): AsyncGenerator<Buffer, void> {
  yield* stream;
}
