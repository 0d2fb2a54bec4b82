import pino, { type Logger, type LoggerOptions } from "pino";

/** Where berthd's log goes: a descriptor, or a file's path. */
export type LogDestination = 1 | string;

/** Opens berthd's log: a line of JSON for each event. Each line is written before the next thing happens, so that a daemon that dies has said what it had to say. */
export function openLog(level: NonNullable<LoggerOptions["level"]>, destination: LogDestination): Logger {
  const output = pino.destination(destination);
  // A log that cannot be written, for want of space, is no reason to end.
  output.on("error", () => undefined);
  return pino({ level }, output);
}
