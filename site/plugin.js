/**
 * What the site makes of the guides: they are called by their headings instead of their files, and what they link to in the
 * repository, and is no page of the site, is linked where the repository is. And what TypeDoc does not see of the sources:
 * what is written at the export of a function that is called otherwise in its module.
 */
import { readFileSync, statSync } from "node:fs"
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

/** Where a module exports what it calls otherwise: `delete_ as delete`. */
const specifierOf = (symbol) =>
  symbol?.declarations
    ?.flatMap((declaration) => declaration.getSourceFile().statements)
    .flatMap((statement) => statement.exportClause?.elements ?? [])
    .find(({ propertyName }) => propertyName?.text === symbol.name)

/** The heading that the page begins with. */
const titleOf = (page) => {
  const [, title] = /^# (.+)$/m.exec(readFileSync(page, "utf8")) ?? []
  if (title === undefined) throw new Error(`${page} has no heading`)
  return title.replaceAll("`", "")
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
    document.name = titleOf(page)
    document.content = withLinks(page, document.content)
  })
  app.converter.on(Converter.EVENT_CREATE_DECLARATION, (context, declaration) => {
    if (declaration.hasComment()) return
    if (declaration.kind === ReflectionKind.Module) {
      app.logger.warn(`the first comment of ${declaration.name} has no @packageDocumentation`)
    }
    const specifier = specifierOf(context.getSymbolFromReflection(declaration))
    declaration.comment = specifier && context.getNodeComment(specifier, false)
  })
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    const inherited = project
      .getReflectionsByKind(ReflectionKind.Constructor)
      .filter(({ flags }) => flags.isExternal || flags.isInherited)
    for (const constructor of inherited) project.removeReflection(constructor)
  })
  app.converter.on(Converter.EVENT_RESOLVE_END, ({ project }) => {
    // A service is shown with its shape; of errors and others, what they extend says nothing more.
    for (const declaration of project.getReflectionsByKind(ReflectionKind.Class)) {
      if (declaration.extendedTypes?.[0]?.toString().startsWith("Shape<")) continue
      delete declaration.extendedTypes
      delete declaration.typeHierarchy
      for (const child of declaration.children ?? []) delete child.inheritedFrom
    }
    // The README is read when this event comes, by what has asked for it before.
    project.readme = withLinks(pages[0], project.readme)
    // The site has the name of the library as its title.
    project.readme[0].text = project.readme[0].text.replace(/^# .+\n/, "")
  })
}
