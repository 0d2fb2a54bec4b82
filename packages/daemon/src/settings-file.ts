import { readFileSync, statSync } from "node:fs";
import type { ReadSettingsFile } from "./config.ts";

/** Reads the settings file of this machine. One that is there and cannot be read is an error: half its settings would be worse than none. */
export const readSettingsFile: ReadSettingsFile = (path) => {
  const mode = statSync(path, { throwIfNoEntry: false })?.mode;
  return mode === undefined ? undefined : { mode, text: readFileSync(path, "utf8") };
};
