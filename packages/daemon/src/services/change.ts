import { BerthError } from "@berth/api";
import type { ChangeOptions, Scope } from "../server/services.ts";
import { isForeignKeyViolation } from "../store/errors.ts";
import { respondOnce } from "../store/idempotency.ts";
import { findProject } from "../store/projects.ts";
import type { Store, Transaction } from "../store/store.ts";

/** Makes a change once per Idempotency-Key, in one transaction. A repeated request gets the first one's answer, as it was then. */
export async function changeOnce<T>(
  store: Store,
  scope: Scope,
  { idempotency }: ChangeOptions,
  work: (tx: Transaction) => Promise<T>,
): Promise<T> {
  try {
    return await store.transaction(async (tx) => {
      if (!idempotency) return work(tx);
      const key = { project: scope.project, tokenId: scope.caller.id, ...idempotency };
      const answer = await respondOnce(tx, key, async () => ({ status: 202, body: await work(tx) }));
      return answer.body as T;
    });
  } catch (error) {
    // It was there when the request came.
    if (isForeignKeyViolation(error) && !(await findProject(store.queries, scope.project)))
      throw new BerthError("not_found", `There is no project ${scope.project} any more.`, { cause: error });
    throw error;
  }
}

/** Holds a change to the generations its If-Match names. */
export function checkGeneration({ ifMatch }: ChangeOptions, generation: number): void {
  if (ifMatch && !ifMatch.includes(generation)) {
    throw new BerthError("precondition_failed", `It is at generation ${generation} now.`);
  }
}
