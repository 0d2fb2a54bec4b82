import { z } from "zod";
import { idSchema, Name, Timestamp } from "./common.ts";

/** What belongs together: instances, images and all else are of one project, and who may do what is said by project. */
export const Project = z.object({ id: idSchema("project"), name: Name, createdAt: Timestamp }).meta({ id: "Project" });
export type Project = z.infer<typeof Project>;

export const CreateProject = z.strictObject({ name: Name }).meta({ id: "CreateProject", examples: [{ name: "shop" }] });
export type CreateProject = z.infer<typeof CreateProject>;

/** A project is called by its name, as `?project=` does. */
export const ProjectParams = z.object({ project: Name });
