import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { newId } from "../core/ids.ts";
import type { ChangeOptions, Scope } from "../server/services.ts";
import { openStore } from "../store/store.ts";
import { imageServices } from "./images.ts";

const store = await openStore({ kind: "sqlite", path: join(await scratchDirectory("image-services"), "berth.db") });
afterAll(() => store.close());

const images = imageServices({ store, nodeId: newId("node"), architecture: "amd64" });
const caller = { tokenId: newId("token"), name: "admin", role: "admin", project: null } as const;
const scope: Scope = { caller, project: "default" };
const plainly: ChangeOptions = { idempotency: null, ifMatch: null, queue: false };

test.each(["https://bob:s3cret@git.example/x.git", "https://s3cret@git.example/x.git"])(
  "a build of %s is refused before anything of it is written down",
  async (url) => {
    const source = { type: "git", url, ref: "HEAD", subdirectory: "" } as const;
    const body = { reference: "private", source, dockerfile: "Dockerfile", buildArgs: {} };
    const error = await images.build(scope, body, plainly).catch((caught: Error) => caught);
    expect(error).toMatchObject({ code: "invalid_request", message: expect.not.stringContaining("s3cret") });
    const { items } = await images.list(scope, { limit: 50, cursor: undefined, reference: undefined });
    expect(JSON.stringify(items)).not.toContain("s3cret");
  },
);
