import { localHost } from "../../host/local.ts";
import { createImages } from "../images.ts";
import { testWork } from "./work.ts";

// Run as a program, so that a test can do it as another user: pulls a reference and prints the artifact's path.
const [dataDirectory = "", allowHost = "", reference = ""] = process.argv.slice(2);
const images = await createImages({ host: localHost(), dataDirectory, outbound: { allowHosts: [allowHost] } });
const work = testWork();
const image = await images.resolve(reference, work);
await images.fetchBlobs(image, reference, work);
process.stdout.write((await images.buildArtifact(image, work)).path);
