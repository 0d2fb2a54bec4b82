import { roles } from "../identity/authorize.ts";
import type { Services } from "../server/services.ts";
import { isDiskFull } from "../store/errors.ts";
import type { Store } from "../store/store.ts";
import { findTokenByHash, touchToken } from "../store/tokens.ts";

/** Tokens, as the server asks for them. */
export function tokenServices(store: Store): Services["tokens"] {
  return {
    async find(hash) {
      const token = await findTokenByHash(store.queries, hash);
      const role = roles.find((name) => name === token?.role);
      if (!token || !role) return undefined;
      await touchToken(store.queries, token).catch((error: unknown) => {
        // Whoever comes to make room must be let in.
        if (!isDiskFull(error)) throw error;
      });
      return { tokenId: token.id, name: token.name, role, project: token.project };
    },
  };
}
