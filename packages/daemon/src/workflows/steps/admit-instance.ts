import { openArchive } from "../../archives/read-archive.ts";
import { newId } from "../../core/ids.ts";
import { importedInstance } from "../../core/imported-instance.ts";
import { firstStatus } from "../../core/new-instance.ts";
import { adaptPorts } from "../../network/ports.ts";
import type { Step } from "../../operations/workflow.ts";
import { appendEvent } from "../../store/events.ts";
import { insertImage } from "../../store/images.ts";
import { insertInstance, listPublishedPorts } from "../../store/instances.ts";
import { holdToQuota, instanceQuotas } from "../../store/quotas.ts";
import { ImportInput } from "../import-input.ts";
import { instanceEvent } from "../instance-record.ts";
import type { Services } from "../services.ts";

/** Writes the rows of an instance whose archive was verified: the instance's, and of an image that says how its process is started. */
export function admitInstance({ archives, host, nodeId, store }: Services): Step {
  return {
    name: "admit-instance",
    async run(context) {
      const { id: operationId, project, target, input } = context.operation;
      const { archiveId, location, wish } = ImportInput.parse(input);
      const { image, instance: archived } = openArchive(archives.path(archiveId)).manifest;
      const { labels, spec } = importedInstance(archived, wish);
      const held = await listPublishedPorts(store.queries, { nodeId, butNot: target.id });
      // Ports that were asked for here are meant as they are.
      const adapted = wish.ports ? { ports: spec.ports, words: [] } : await adaptPorts(host, spec.ports, held);
      for (const line of adapted.words) context.log(line);
      const { reference, contentDigest, os, architecture, startConfig } = image;
      return {
        write: async (tx) => {
          const { id: imageId } = await insertImage(tx, {
            id: newId("image"),
            project,
            source: { type: "import", reference, contentDigest },
            state: "ready",
            reason: "",
            contentDigest: null,
            kind: "rootfs",
            os,
            architecture,
            firmware: "kernel",
            sizeBytes: null,
            startConfig,
            operationId,
          });
          const instance = await insertInstance(tx, {
            id: target.id,
            project,
            name: target.name,
            labels,
            imageId,
            image: reference,
            origin: null,
            layers: null,
            memory: null,
            location,
            nodeId,
            spec: { ...spec, ports: [...adapted.ports] },
            status: firstStatus(new Date().toISOString()),
          });
          appendEvent(
            tx,
            instanceEvent(instance, "instance.created", operationId, { image: reference, archive: archiveId }),
          );
          // What the archive says is judged by what is made of it.
          await holdToQuota(tx, project, [...instanceQuotas, "images"]);
        },
      };
    },
  };
}
