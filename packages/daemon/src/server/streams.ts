import type { IncomingHttpHeaders, ServerResponse } from "node:http";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { BerthError } from "@berth/api";
import type { FastifyReply } from "fastify";
import type { MessageStream } from "./call.ts";
import { rangeOf } from "./range.ts";
import type { FileAnswer } from "./services.ts";

/** The times of an event stream, in milliseconds. */
export interface StreamTimes {
  /** Between comments that keep proxies from cutting a quiet stream, and show a client that it still stands. */
  readonly heartbeatMs: number;
  /** How long a client may take nothing in before it is cut; it can resume. */
  readonly slowReaderMs: number;
}

/** Begins an answer that Fastify has no more to do with. */
function begin(reply: FastifyReply, status: number, contentType: string): ServerResponse {
  reply.hijack();
  const { raw } = reply;
  for (const [name, value] of Object.entries(reply.getHeaders())) if (value !== undefined) raw.setHeader(name, value);
  raw.setHeader("content-type", contentType);
  raw.writeHead(status);
  // A quiet log must not look like a server that does not answer.
  raw.flushHeaders();
  return raw;
}

/**
 * Sends bytes as they come, no faster than the client takes them. When the stream fails or is aborted midway the connection is cut, which tells the client
 * that this was not the end; the error is thrown for the log.
 */
export async function sendBytes(
  reply: FastifyReply,
  status: number,
  contentType: string,
  stream: Readable,
  signal: AbortSignal,
): Promise<void> {
  const raw = begin(reply, status, contentType);
  try {
    await pipeline(stream, raw, { signal });
  } catch (error) {
    raw.destroy();
    if (!signal.aborted) throw error;
  }
}

/** Answers with a file, or the part of it that is asked for; nothing is sent yet. Throws `range_not_satisfiable` when it has none such. */
export function openFile(
  reply: FastifyReply,
  headers: IncomingHttpHeaders,
  file: FileAnswer,
): { readonly status: number; readonly stream: Readable } {
  const { sizeBytes, tag, name } = file;
  const ifRange = headers["if-range"];
  const part = rangeOf(headers.range, Array.isArray(ifRange) ? ifRange.join() : ifRange, file);
  reply.headers({
    "accept-ranges": "bytes",
    etag: `"${tag}"`,
    "content-disposition": `attachment; filename="${name.replace(/[^A-Za-z0-9._-]/g, "_")}"`,
  });
  if (part === null) {
    reply.header("content-range", `bytes */${sizeBytes}`);
    throw new BerthError("range_not_satisfiable", `It has ${sizeBytes} bytes.`);
  }
  const { start, end } = part ?? { start: 0, end: sizeBytes };
  reply.header("content-length", end - start);
  if (part) reply.header("content-range", `bytes ${start}-${end - 1}/${sizeBytes}`);
  return { status: part ? 206 : 200, stream: file.read(start, end) };
}

/** Sends messages as Server-Sent Events until they end, the client leaves or falls too far behind, or the signal is aborted. */
export async function sendEvents<T>(
  reply: FastifyReply,
  stream: MessageStream<T>,
  times: StreamTimes,
  signal: AbortSignal,
): Promise<void> {
  reply.header("x-accel-buffering", "no");
  const raw = begin(reply, 200, "text/event-stream");
  const heartbeat = setInterval(() => {
    // To one that does not read, it would only pile up.
    if (!raw.writableNeedDrain) raw.write(":\n\n");
  }, times.heartbeatMs);
  try {
    raw.write(`retry: 1000\n${stream.first === undefined ? "" : `id: ${stream.first}\n`}\n`);
    for await (const message of stream.messages) {
      if (signal.aborted) break;
      const id = stream.idOf ? `id: ${stream.idOf(message)}\n` : "";
      const type = stream.typeOf?.(message);
      const head = `${id}${type === undefined ? "" : `event: ${type}\n`}`;
      if (!raw.write(`${head}data: ${JSON.stringify(message)}\n\n`) && !(await drained(raw, times.slowReaderMs))) {
        raw.destroy();
        break;
      }
    }
    raw.end();
  } catch (error) {
    raw.destroy();
    if (!signal.aborted) throw error;
  } finally {
    clearInterval(heartbeat);
  }
}

/** Whether the client took everything in within the time. */
function drained(raw: ServerResponse, withinMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const settle = (result: boolean) => {
      clearTimeout(timer);
      raw.off("drain", onDrain);
      raw.off("close", onClose);
      resolve(result);
    };
    const onDrain = () => settle(true);
    const onClose = () => settle(false);
    const timer = setTimeout(() => settle(false), withinMs);
    raw.once("drain", onDrain);
    raw.once("close", onClose);
    if (raw.destroyed) settle(false);
  });
}
