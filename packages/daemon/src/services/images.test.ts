import { join } from "node:path";
import { CreateInstance } from "@berth/api";
import { afterAll, describe, expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { newId } from "../core/ids.ts";
import type { Driver } from "../drivers/driver.ts";
import type { Caller } from "../identity/authorize.ts";
import type { ChangeOptions, Scope } from "../server/services.ts";
import { newImage } from "../store/contract.ts";
import { deleteImage, insertImage, setImageReference } from "../store/images.ts";
import { openStore } from "../store/store.ts";
import { imageServices } from "./images.ts";
import { instanceServices } from "./instances.ts";

const store = await openStore({ kind: "sqlite", path: join(await scratchDirectory("image-services"), "berth.db") });
afterAll(() => store.close());

/** As far as a request looks at it. */
const driver = { abilities: { boots: ["rootfs"], templates: false } } as unknown as Driver;
const context = {
  store,
  nodeId: newId("node"),
  architecture: "amd64",
  capacity: { cpus: 2, memoryMib: 4096 },
  drivers: new Map([["n/fake", driver]]),
  defaultLocation: "n/fake",
  memoryBuild: async () => undefined,
  cannotStandIn: "",
};
const images = imageServices(context);
const instances = instanceServices(context);
const caller: Caller = {
  id: newId("token"),
  name: "admin",
  session: null,
  admin: true,
  roles: new Map(),
  project: null,
  scopes: null,
  expiresAt: null,
};
const scope: Scope = { caller, project: "default" };
const plainly: ChangeOptions = { idempotency: null, ifMatch: null, queue: false };

/** A ready image of that name; nobody works on its operations. */
async function readyImage(name: string): Promise<string> {
  const { id } = await insertImage(store.queries, {
    ...newImage(),
    source: { type: "registry", reference: `localhost/${name}:latest` },
    state: "ready",
    contentDigest: `sha256:${"0".repeat(64)}`,
    sizeBytes: 1,
  });
  await setImageReference(store.queries, "default", `localhost/${name}:latest`, id);
  return id;
}

describe("an image that is being deleted", () => {
  test.each(["its id", "its reference"])("gives no instance by %s", async (by) => {
    const id = await readyImage("going");
    const { operation } = await images.remove(scope, id, plainly);
    const image = by === "its id" ? id : "localhost/going";
    const asked = instances.create(scope, CreateInstance.parse({ image }), plainly);
    await expect(asked).rejects.toMatchObject({ code: "busy", message: expect.stringContaining(operation.id) });
  });

  test("is not deleted twice, and a repeated request is told of the first when it is gone", async () => {
    const id = await readyImage("once");
    const once = { ...plainly, idempotency: { key: "once", requestHash: "x" } };
    const first = await images.remove(scope, "localhost/once", once);
    await store.transaction((tx) => deleteImage(tx, id));
    const again = await images.remove(scope, "localhost/once", once);
    expect(again.operation.id).toBe(first.operation.id);
    expect(again.image.id).toBe(id);
    await expect(images.remove(scope, "localhost/once", plainly)).rejects.toMatchObject({ code: "not_found" });
  });
});

test("one that an instance waits for is not deleted", async () => {
  const id = await readyImage("wanted");
  await instances.create(scope, CreateInstance.parse({ image: id, name: "waiting" }), plainly);
  await expect(images.remove(scope, id, plainly)).rejects.toMatchObject({ code: "image_in_use" });
});

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
