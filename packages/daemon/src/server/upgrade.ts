import { type IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type WebSocket, WebSocketServer } from "ws";
import { maxMessageBytes } from "./guest-socket.ts";

export interface Upgrades {
  /** Whether the request asks for a WebSocket, and can become one. */
  has(request: FastifyRequest): boolean;
  /** Answers 101 and hands over the socket; it is cut when the peer is silent for two pings. */
  accept(request: FastifyRequest, reply: FastifyReply): Promise<WebSocket>;
  /** Says goodbye to every open socket. */
  closeAll(): void;
  /** Cuts every open socket. */
  terminateAll(): void;
}

/**
 * Leads WebSocket requests through the same hooks and routes as all others, so that they are authenticated, authorised and refused alike: an upgrade is
 * an ordinary request whose answer, if its handler does not take it over, is written to the socket and closes it.
 */
export function acceptUpgrades(app: FastifyInstance, pingMs: number): Upgrades {
  const waiting = new WeakMap<IncomingMessage, { readonly socket: Duplex; readonly head: Buffer }>();
  const open = new Set<WebSocket>();
  const server = new WebSocketServer({ noServer: true, maxPayload: maxMessageBytes, clientTracking: false });

  app.server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => socket.destroy());
    waiting.set(request, { socket, head });
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    response.assignSocket(socket as never);
    response.on("finish", () => socket.end());
    app.routing(request, response);
  });

  return {
    has: (request) => waiting.has(request.raw) && request.headers.upgrade?.toLowerCase() === "websocket",
    accept(request, reply) {
      const upgrade = waiting.get(request.raw);
      if (!upgrade) throw new Error("The request is no upgrade.");
      reply.hijack();
      reply.raw.detachSocket(upgrade.socket as never);
      return new Promise((resolve) => {
        server.handleUpgrade(request.raw, upgrade.socket, upgrade.head, (socket) => {
          open.add(socket);
          const stopPings = keepAlive(socket, pingMs);
          socket.on("error", () => socket.terminate());
          socket.on("close", () => {
            stopPings();
            open.delete(socket);
          });
          resolve(socket);
        });
      });
    },
    closeAll() {
      for (const socket of open) socket.close(1001, "berthd is shutting down");
    },
    terminateAll() {
      for (const socket of open) socket.terminate();
    },
  };
}

/** Pings a peer, and cuts it when it did not answer the ping before. */
function keepAlive(socket: WebSocket, everyMs: number): () => void {
  let alive = true;
  socket.on("pong", () => {
    alive = true;
  });
  const timer = setInterval(() => {
    if (!alive) {
      socket.terminate();
      return;
    }
    alive = false;
    socket.ping();
  }, everyMs);
  return () => clearInterval(timer);
}
