/**
 * What the site makes of the guides: they are called by their headings instead of their files, and what they link to in the
 * repository, and is no page of the site, is linked where the repository is. And what TypeDoc does not see of the sources: the
 * names of indexes, and what is written at the export of a function that is called otherwise in its module.
 */
import { statSync } from "node:fs"
import { dirname, relative, resolve, sep } from "node:path"
import { Converter, ReflectionKind } from "typedoc"
import { home, pages, root } from "./typedoc.config.js"

const isPicture = /\.(?:gif|png|svg|webp)$/

/** Where the repository has what a page links to. */
const inRepository = (page, link) => {
  const [path, anchor] = decodeURI(link).split("#")
  const target = resolve(dirname(page), path)
  const kind = statSync(target).isDirectory() ? "tree" : "blob"
  const url = `${home}/${kind}/main/${relative(root, target).replaceAll(sep, "/")}`
  return anchor === undefined ? url : `${url}#${anchor}`
}

/** The parts of a page, with each link that leads to no other page made one to the repository. */
const withLinks = (page, parts) =>
  parts.map((part) =>
    part.kind === "relative-link" && part.target === undefined
      ? { kind: "text", text: inRepository(page, part.text) }
      : part
  )

/** As it is imported: `effect-etcd/coordination`, which TypeDoc calls by its file. */
const nameOf = (module) => (module === "index" ? "effect-etcd" : module.replace(/\/index$/, ""))

/** Where a module exports what it calls otherwise: `delete_ as delete`. */
const specifierOf = (symbol) =>
  symbol?.declarations
    ?.flatMap((declaration) => declaration.getSourceFile().statements)
    .flatMap((statement) => statement.exportClause?.elements ?? [])
    .find(({ propertyName }) => propertyName?.text === symbol.name)

/** The heading that the page begins with, and what comes after it. */
const headed = (page, parts) => {
  const end = parts.findIndex(({ kind, text }) => kind === "text" && text.includes("\n"))
  const last = parts[end]
  const line = [...parts.slice(0, end), { text: last.text.slice(0, last.text.indexOf("\n")) }]
  const [, title] = /^# (.+)$/.exec(line.map(({ text }) => text).join("")) ?? []
  if (title === undefined) throw new Error(`${page} does not begin with a heading`)
  return {
    title: title.replaceAll("`", ""),
    content: [{ ...last, text: last.text.slice(last.text.indexOf("\n")) }, ...parts.slice(end + 1)]
  }
}

export const load = (app) => {
  app.converter.on(Converter.EVENT_BEGIN, ({ project: { files } }) => {
    const register = files.register.bind(files)
    files.register = (page, link) => {
      const target = resolve(dirname(page), decodeURI(link).split("#")[0])
      return pages.includes(target) || isPicture.test(target) ? register(page, link) : undefined
    }
  })
  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_, document) => {
    const page = document.project.files.getReflectionPath(document)
    const { content, title } = headed(page, withLinks(page, document.content))
    document.name = title
    document.content = content
  })
  app.converter.on(Converter.EVENT_CREATE_DECLARATION, (context, declaration) => {
    if (declaration.kind === ReflectionKind.Module) {
      if (!declaration.hasComment())
        app.logger.warn(`the first comment of ${declaration.name} has no @packageDocumentation`)
      declaration.name = nameOf(declaration.name)
    } else if (!declaration.hasComment()) {
      const specifier = specifierOf(context.getSymbolFromReflection(declaration))
      declaration.comment = specifier && context.getNodeComment(specifier, false)
    }
  })
  // The README is read when this event comes, by what has asked for it before.
  app.converter.on(Converter.EVENT_RESOLVE_END, ({ project }) => {
    project.readme = headed(pages[0], withLinks(pages[0], project.readme)).content
  })
}
