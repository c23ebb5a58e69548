/**
 * What is beside the sources and the guides: pages, workflows, templates, and what of them is published.
 */
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, relative, sep } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Yaml from "effect/encoding/Yaml"
import * as Predicate from "effect/Predicate"
import { followed } from "../scripts/docs.ts"
import { taken, unfinished } from "../scripts/release.ts"
import { anchors, guides, links } from "./support/pages.ts"

const root = join(import.meta.dirname, "..")
const read = (path: string) => readFileSync(join(root, path), "utf8")
const found = (pattern: string) => globSync(pattern, { cwd: root }).map((path) => path.replaceAll(sep, "/"))
const manifest = JSON.parse(read("package.json"))

const withDirectory = (use: (directory: string) => void) => {
  const directory = mkdtempSync(join(tmpdir(), "effect-etcd-project-"))
  try {
    use(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

describe("pages", () => {
  it("those beside the README link to what there is", () => {
    const others = [...found("*.md"), ...found(".changeset/README.md"), ...found(".github/*.md")]
    assert.includeMembers(others, ["CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md"])
    const broken = others.flatMap((page) =>
      links(read(page)).filter((link) => {
        const [path, name] = link.split("#")
        const target = path === "" ? page : join(dirname(page), path!)
        return !existsSync(join(root, target)) || (name !== undefined && !anchors(read(target)).has(name))
      })
    )
    assert.deepStrictEqual(broken, [])
  })

  it("what the README, and the guides that are published with it, link to is published", () => {
    const published = ["README.md", "LICENSE", "package.json", ...manifest.files]
    const left = ["README.md", ...guides].flatMap((page) =>
      links(read(page)).flatMap((link) => {
        const path = relative(root, join(root, dirname(page), link.split("#")[0]!)).replaceAll(sep, "/")
        const isPublished =
          link.startsWith("#") || published.some((place) => path === place || path.startsWith(`${place}/`))
        return isPublished ? [] : [`${page}: ${link}`]
      })
    )
    assert.deepStrictEqual(left, [])
  })

  it("the README leads to the site, which the workflow publishes as that of the repository", () => {
    const [, owner, name] = /github\.com\/([\w-]+)\/([\w-]+)\.git$/.exec(manifest.repository.url)!
    assert.include(read("README.md"), `](https://${owner}.github.io/${name}/)`)
  })

  it("of the site, one that leads nowhere is told", () => {
    withDirectory((directory) => {
      mkdirSync(join(directory, "a"))
      writeFileSync(
        join(directory, "index.html"),
        '<a href="a/b.html#here">x</a><a href="a">x</a><a href="https://example.org/">x</a><a href="#top">x</a><i id="top">' +
          '<a href="50%.html">x</a><a href="a/b.html#%ff">x</a>'
      )
      writeFileSync(join(directory, "a", "index.html"), '<script src="../style.css"></script><a href="../?q=1">x</a>')
      writeFileSync(join(directory, "a", "b.html"), '<i id="there"><a href="../index.html#top">x</a>')
      assert.deepStrictEqual(followed(directory), {
        pages: 3,
        links: 9,
        broken: [
          `a${sep}index.html: ../style.css`,
          ...["a/b.html#here", "50%.html", "a/b.html#%ff"].map((link) => `index.html: ${link}`)
        ]
      })
    })
  })
})

interface Job {
  readonly "runs-on": string
  readonly "timeout-minutes"?: number
  readonly strategy?: { readonly matrix: { readonly os?: ReadonlyArray<string> } }
  readonly permissions?: Readonly<Record<string, string>>
  readonly steps: ReadonlyArray<{
    readonly uses?: string
    readonly run?: string
    readonly with?: { readonly "version-script"?: string }
  }>
}

interface Workflow {
  readonly on: object
  readonly permissions?: Readonly<Record<string, string>>
  readonly concurrency?: object
  readonly jobs: Readonly<Record<string, Job>>
}

const workflows = found(".github/workflows/*.yml").map((path) => ({ path, ...(Yaml.parse(read(path)) as Workflow) }))
const jobs = workflows.flatMap(({ jobs, path }) =>
  Object.entries(jobs).map(([name, job]) => ({ at: `${path}: ${name}`, ...job }))
)

describe("workflows", () => {
  it("run commands that there are, with files that there are", () => {
    assert.isAbove(jobs.length, 5)
    for (const { at, steps } of jobs) {
      for (const { run = "", with: given } of steps) {
        for (const [, script] of `${run} ${given?.["version-script"] ?? ""}`.matchAll(
          /\bnpm (?:run )?(?:-s )?([\w:]+)/g
        )) {
          assert.property(manifest.scripts, script!, at)
        }
        for (const [path] of run.matchAll(/(?<=^|\s)(?:node_modules|scripts|site|test)\/[\w./-]+/g)) {
          assert.isTrue(existsSync(join(root, path)), `${at}: ${path}`)
        }
      }
    }
  })

  it("check and test on Linux and macOS, and torture, exclude and embed every night", () => {
    const jobOf = (path: string, name: string) => workflows.find((one) => one.path.endsWith(path))!.jobs[name]!
    for (const name of ["check", "test"]) {
      const { strategy, "runs-on": machine } = jobOf("check.yml", name)
      assert.include(machine, "matrix.os")
      for (const os of ["ubuntu", "macos"])
        assert.isTrue(
          strategy?.matrix.os?.some((one) => one.startsWith(os)),
          os
        )
    }
    const nightly = workflows.find(({ path }) => path.endsWith("torture.yml"))!
    assert.property(nightly.on, "schedule")
    for (const command of ["torture", "exclusion", "elastic"]) {
      const { steps } = jobOf("torture.yml", command)
      assert.isTrue(steps.some(({ run = "" }) => run.includes(`npm run ${command} -- `) && run.includes('"$SEED"')))
      assert.isTrue(steps.some(({ uses = "" }) => uses.startsWith("actions/upload-artifact@")))
    }
  })

  it("may do nothing but what they say, have a time limit, and do not run beside themselves", () => {
    for (const { concurrency, path, permissions } of workflows) {
      assert.deepStrictEqual(permissions, { contents: "read" }, path)
      assert.isTrue(Predicate.hasProperty(concurrency, "group"), path)
    }
    for (const job of jobs) assert.isAbove(job["timeout-minutes"] ?? 0, 0, job.at)
  })

  it("know no secret and no registry, and take actions by a version, and those of others than GitHub by a commit", () => {
    for (const { path } of workflows) assert.notMatch(read(path), /\bsecrets\.|registry-url|registry\.|npmrc/, path)
    for (const { at, steps } of jobs) {
      for (const { uses } of steps)
        if (uses !== undefined) assert.match(uses, /^(?:actions\/[\w-]+@v\d+|[\w-]+\/[\w-]+@[0-9a-f]{40})$/, at)
    }
  })
})

describe("templates of issues", () => {
  it("are forms whose fields have names of their own", () => {
    const forms = found(".github/ISSUE_TEMPLATE/*.yml").filter((path) => !path.endsWith("/config.yml"))
    assert.isAbove(forms.length, 2)
    for (const path of forms) {
      const form = Yaml.parse(read(path)) as {
        readonly name: string
        readonly description: string
        readonly body: ReadonlyArray<{ readonly type: string; readonly id?: string }>
      }
      assert.isString(form.name, path)
      assert.isString(form.description, path)
      const ids = form.body.filter(({ type }) => type !== "markdown").map(({ id }) => id)
      assert.isTrue(ids.every(Predicate.isString), path)
      assert.strictEqual(new Set(ids).size, ids.length, path)
    }
  })
})

describe("a release", () => {
  const reasons = (changelog: string, ...changesets: ReadonlyArray<string>) => {
    let told: ReadonlyArray<string> = []
    withDirectory((directory) => {
      mkdirSync(join(directory, ".changeset"))
      for (const name of ["README.md", ...changesets]) writeFileSync(join(directory, ".changeset", name), "")
      writeFileSync(join(directory, "package.json"), JSON.stringify({ version: "1.2.0" }))
      writeFileSync(join(directory, "CHANGELOG.md"), changelog)
      told = unfinished(directory)
    })
    return told
  }

  it("is of what the changelog has under its version, and of nothing else", () => {
    assert.deepStrictEqual(reasons("# Changelog\n\n## 1.2.0\n\n- all\n\n## 1.1.0\n"), [])
    assert.lengthOf(reasons("# Changelog\n\n## 1.2.0 (unreleased)\n"), 1)
    assert.lengthOf(reasons("# Changelog\n\n## 1.1.0\n"), 1)
    assert.lengthOf(reasons("# Changelog\n\n## 1.2.0\n", "brave-cats.md"), 1)
  })

  it("leaves package.json as it was, wherever it broke off", () => {
    for (const dryRun of [true, false]) {
      for (const broken of [-1, 0, 1, 2]) {
        const commands: Array<string> = []
        const code = taken(dryRun, (command, args) =>
          commands.push([command, ...args].join(" ")) - 1 === broken ? 7 : 0
        )
        assert.strictEqual(code, broken === -1 ? 0 : 7)
        assert.lengthOf(commands, broken === -1 ? 4 : broken + 2)
        assert.match(commands.at(-1)!, /scripts.packages.optional\.ts$/)
      }
    }
  })

  it("says where it is from", () => {
    for (const field of ["author", "homepage", "license"]) assert.isString(manifest[field], field)
    assert.strictEqual(manifest.repository.url, `git+${manifest.homepage.replace(/#.*/, "")}.git`)
    assert.strictEqual(manifest.bugs.url, `${manifest.homepage.replace(/#.*/, "")}/issues`)
    assert.deepStrictEqual(manifest.publishConfig, { access: "public", provenance: true })
    for (const place of manifest.files) assert.isTrue(place === "dist" || existsSync(join(root, place)), place)
  })
})
