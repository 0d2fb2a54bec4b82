import { BerthError } from "@berth/api";
import type { FastifyReply } from "fastify";
import { addressGroup } from "../core/lock-out.ts";
import { RequestRate } from "../core/request-rate.ts";

/** Counts requests, says in their answers what is left, and answers the BerthError `rate_limited` for one too many. */
export interface RateLimits {
  /** Of a token or user. */
  ofCaller(id: string, reply: FastifyReply): BerthError | undefined;
  /** Of an address, from which somebody comes who is not known. */
  ofAddress(address: string, reply: FastifyReply): BerthError | undefined;
}

/** How many seconds' worth may be sent at once. */
const burstSeconds = 10;
/** Who is not known gets this part of what others do. */
const ofUnknown = 0.1;

/** Limits of so many requests a second for each caller, and a tenth of it for each address of callers who are not known; without any for 0. Answers carry the RateLimit headers (draft-ietf-httpapi-ratelimit-headers-10). */
export function rateLimits(perSecond: number, now: () => number = () => performance.now()): RateLimits {
  if (perSecond === 0) return { ofCaller: () => undefined, ofAddress: () => undefined };
  const limit = (share: number) => {
    const rate = perSecond * share;
    const burst = Math.max(1, Math.round(rate * burstSeconds));
    const senders = new RequestRate(rate, burst);
    const policy = `"default";q=${burst};w=${burstSeconds}`;
    return (sender: string, reply: FastifyReply) => {
      const { allowed, remaining, retryMs, resetMs } = senders.take(sender, now());
      reply.header("ratelimit-policy", policy);
      reply.header("ratelimit", `"default";r=${remaining};t=${Math.ceil(resetMs / 1000)}`);
      if (allowed) return undefined;
      const retryAfterSeconds = Math.max(1, Math.ceil(retryMs / 1000));
      return new BerthError("rate_limited", `More than ${rate} requests a second were sent.`, { retryAfterSeconds });
    };
  };
  const byAddress = limit(ofUnknown);
  return { ofCaller: limit(1), ofAddress: (address, reply) => byAddress(addressGroup(address), reply) };
}
