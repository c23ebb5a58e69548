/**
 * Where etcdctl is: in `ETCDCTL_BINARY`, or on the `PATH`. Where there is none, nothing is tested with it.
 */
import * as NodeFs from "node:fs"
import * as NodePath from "node:path"
import process from "node:process"

export const isExecutable = (file: string): boolean =>
  NodeFs.statSync(file, { throwIfNoEntry: false })?.isFile() === true

const inPath = (name: string): string | undefined =>
  (process.env.PATH ?? "")
    .split(NodePath.delimiter)
    .map((directory) => NodePath.join(directory, name))
    .find(isExecutable)

export const etcdctl = process.env.ETCDCTL_BINARY ?? inPath("etcdctl")

/** What is to be said in the name of a test that needs it. */
export const missing = etcdctl === undefined ? " (skipped: no etcdctl in ETCDCTL_BINARY or the PATH)" : ""
