import pino, { type Logger, type LoggerOptions } from "pino";

/** Opens berthd's log on a descriptor, or in a file by its path: a line of JSON for each event. Each line is written before the next thing happens, so that a daemon that dies has said what it had to say. */
export function openLog(level: NonNullable<LoggerOptions["level"]>, destination: number | string): Logger {
  const output = pino.destination(destination);
  // A log that cannot be written, for want of space, is no reason to end.
  output.on("error", () => undefined);
  return pino({ level }, output);
}
