import { ImportInstance } from "@berth/api";
import { z } from "zod";
import type { Json } from "../operations/workflow.ts";
import { InstanceInput } from "./instance-input.ts";

/** What an import was asked, beside what every operation of an instance is. */
export const ImportInput = InstanceInput.extend({
  archiveId: z.string(),
  location: z.string(),
  wish: ImportInstance.omit({ location: true }),
});

/** An import's input as its operation keeps it. */
export function toInput(input: z.input<typeof ImportInput>): Json {
  return input as unknown as Json;
}
