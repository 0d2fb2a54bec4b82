import { BerthError } from "@berth/api";
import { findTemplate, type TemplatePlace } from "../store/templates.ts";
import type { Services } from "./services.ts";

/** How it stands with a template that something must begin from. */
export type NeededTemplate =
  | { readonly state: "missing" | "building" | "ready" }
  | { readonly state: "failed"; readonly error: BerthError };

/** Looks for the template of a place. `operationId` is the operation that makes it, while it does. */
export async function observeTemplateOf(
  { store }: Services,
  place: TemplatePlace | undefined,
): Promise<{ readonly state: NeededTemplate; readonly operationId: string | null }> {
  const template = place && (await findTemplate(store.queries, place))?.template;
  if (!template) return { state: { state: "missing" }, operationId: null };
  if (template.state !== "failed") return { state: { state: template.state }, operationId: template.operationId };
  return { state: { state: "failed", error: new BerthError("template_failed", template.reason) }, operationId: null };
}
