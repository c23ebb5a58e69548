/**
 * What the public modules export, each with its doc comment, and the members of each: read from the sources, as they stand,
 * so that nobody has to remember to add what is new.
 */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { parseSync } from "rolldown/utils"
import { modules, nameOf, source } from "../../scripts/modules.ts"

/** A node of the syntax tree: as much of it as is looked at here. */
type Node = any

/** A doc comment: its text without the tags, and the tags. */
export interface Comment {
  readonly text: string
  readonly tags: ReadonlyMap<string, string>
}

/** What an exported declaration consists of: a field, a method, or one of the shapes that it may have. */
export interface Member {
  readonly name: string
  readonly kind: "field" | "shape"
  /** Undefined where there is no comment. */
  readonly comment: Comment | undefined
  /** Its type, in one line. */
  readonly type: string
  readonly isOptional: boolean
  /** What it fails with when it is run, as far as that is not only what it is given fails with. */
  readonly error: string | undefined
}

/** Something that a module exports. */
export interface Exported {
  readonly module: string
  readonly name: string
  readonly kind: "interface" | "type" | "class" | "value"
  readonly comment: Comment | undefined
  /** The text of its type, or of its beginning where it says none, without comments. */
  readonly type: string
  readonly isFunction: boolean
  /** What it fails with when it is run, as far as that is not only what it is given fails with. */
  readonly error: string | undefined
  /** The texts that it may be, where it is one of some. */
  readonly literals: ReadonlyArray<string>
  readonly members: ReadonlyArray<Member>
}

const parseComment = (raw: string): Comment => {
  const plain = raw
    .slice(3, -2)
    .split("\n")
    .map((line) => line.replace(/^ *\* ?/, ""))
    .join("\n")
  const [text = "", ...rest] = plain.split(/^ *@(?=\w)/m)
  return {
    text: text.trim(),
    tags: new Map(
      rest.map((tag) => {
        const [, name = "", value = ""] = /^(\w+)\s*([\s\S]*)$/.exec(tag) ?? []
        return [name, value.trim()]
      })
    )
  }
}

/** The doc comment that ends where a declaration begins. */
const commentBefore = (text: string, start: number): Comment | undefined => {
  // One that says something to a tool may stand in between.
  const before = text.slice(0, start).replace(/(?:\n[ \t]*\/\/.*)*\s*$/, "")
  if (!before.endsWith("*/")) return undefined
  const raw = before.slice(before.lastIndexOf("/*"))
  return raw.startsWith("/**") ? parseComment(raw) : undefined
}

const oneLine = (text: string): string =>
  text
    .replace(/\/\*[\s\S]*?\*\//g, "")
    .replace(/\s+/g, " ")
    .trim()

/** Of `"a" | "b"`, `Schema.Literals(["a", "b"])`, also in arrays. */
const literalsIn = (node: Node): ReadonlyArray<string> => {
  switch (node?.type) {
    case "Literal":
      return typeof node.value === "string" ? [node.value] : []
    case "TSLiteralType":
      return literalsIn(node.literal)
    case "TSUnionType":
      return node.types.flatMap(literalsIn)
    case "ArrayExpression":
      return node.elements.flatMap(literalsIn)
    case "CallExpression":
      return node.callee.property?.name === "Literals" ? node.arguments.flatMap(literalsIn) : []
    default:
      return []
  }
}

/** A module, as it is read. */
interface Source {
  readonly text: string
  /** What is declared at the top of it, by name, each with the statement that it is in. */
  readonly declared: ReadonlyMap<string, readonly [statement: Node, node: Node]>
}

/** What an effect, a stream or a layer fails with, or one that a function gives, by the type of it. */
const errorsIn = (file: Source, node: Node): ReadonlyArray<string> => {
  switch (node?.type) {
    case "TSTypeAnnotation":
    case "TSParenthesizedType":
      return errorsIn(file, node.typeAnnotation)
    case "ArrowFunctionExpression":
    case "TSFunctionType":
    case "TSMethodSignature":
    case "TSCallSignatureDeclaration":
      return errorsIn(file, node.returnType)
    case "TSTypeLiteral":
      return node.members.flatMap((one: Node) => errorsIn(file, one))
    case "TSTypeReference": {
      const name = file.text.slice(node.typeName.start, node.typeName.end)
      if (!/^(?:Effect\.Effect|Stream\.Stream|Layer\.Layer)$/.test(name)) {
        return errorsIn(file, file.declared.get(name)?.[1].typeAnnotation)
      }
      const error = node.typeArguments?.params[1]
      return error === undefined ? [] : [oneLine(file.text.slice(error.start, error.end))]
    }
    default:
      return []
  }
}

/** `never`, and the names of what others fail with. */
const isNoneOfItsOwn = (error: string): boolean => /^(?:never|E\d?)(?: \| E\d?)*$/.test(error)

const errorOf = (file: Source, node: Node): string | undefined =>
  errorsIn(file, node).find((error) => !isNoneOfItsOwn(error))

/** Objects that are the types, or describe the fields, of a declaration: `{ readonly a: string }`, `{ a: Schema.String }`. */
const objectsIn = (file: Source, node: Node): ReadonlyArray<Node> => {
  switch (node?.type) {
    case "TSInterfaceBody":
    case "TSTypeLiteral":
    case "ClassBody":
    case "ObjectExpression":
      return [node]
    case "TSUnionType":
    case "TSIntersectionType":
      return node.types.flatMap((one: Node) => objectsIn(file, one))
    case "TSParenthesizedType":
    case "TSTypeAnnotation":
      return objectsIn(file, node.typeAnnotation)
    // `ReadonlyArray<{ … }>`, `Data.TaggedEnum<{ … }>`.
    case "TSTypeReference":
      return (node.typeArguments?.params ?? []).flatMap((one: Node) => objectsIn(file, one))
    // `Schema.TaggedError<X>()("X", { … })`.
    case "CallExpression":
      return [node.callee, ...node.arguments].flatMap((one) => objectsIn(file, one))
    // What several have in common: `Schema.TaggedError<X>()("X", details)`, `{ ...details, a: Schema.String }`.
    case "Identifier":
      return objectsIn(file, file.declared.get(node.name)?.[1].init)
    default:
      return []
  }
}

/** The shapes of a union of objects, by their tags. */
const shapesIn = (file: Source, node: Node): ReadonlyArray<Member> => {
  const objects = objectsIn(file, node)
  if (node?.type !== "TSUnionType" || objects.length < 2) return []
  return objects.map((object) => {
    const tag = object.members.find((member: Node) => member.key?.name === "_tag") ?? object.members[0]
    const [, name = ""] = /^readonly (?:_tag: )?([^};]*)/.exec(oneLine(file.text.slice(tag.start, tag.end))) ?? []
    const before = file.text.slice(0, object.start).replace(/\|\s*$/, "")
    return {
      name,
      kind: "shape",
      comment: commentBefore(file.text, before.length),
      type: oneLine(file.text.slice(object.start, object.end)),
      isOptional: false,
      error: undefined
    }
  })
}

const memberOf = (file: Source, member: Node): ReadonlyArray<Member> => {
  if (member.type === "SpreadElement") return objectsIn(file, member.argument).flatMap((one) => membersOf(file, one))
  if (member.type === "TSIndexSignature" || member.accessibility === "private" || member.kind === "constructor")
    return []
  const name = member.key?.name ?? member.key?.value ?? "()"
  const value = member.typeAnnotation ?? member.value ?? member
  const type = oneLine(file.text.slice(value.start, value.end)).replace(/^: /, "")
  const inner = value.type === "TSTypeAnnotation" ? membersIn(file, value) : []
  return [
    {
      name,
      kind: "field",
      comment: commentBefore(file.text, member.start),
      type,
      isOptional: member.optional === true || /^Schema\.optional/.test(type),
      error: errorOf(file, value)
    },
    ...inner.map((one) => ({ ...one, name: `${name}.${one.name}` }))
  ]
}

const membersOf = (file: Source, object: Node): ReadonlyArray<Member> =>
  (object.body ?? object.members ?? object.properties).flatMap((member: Node) => memberOf(file, member))

const membersIn = (file: Source, node: Node): ReadonlyArray<Member> =>
  objectsIn(file, node).flatMap((object) => membersOf(file, object))

const functions = new Set(["ArrowFunctionExpression", "FunctionExpression", "TSFunctionType", "FunctionDeclaration"])

const isFunction = (node: Node): boolean => {
  const type = node.id?.typeAnnotation?.typeAnnotation
  return (
    functions.has(node.type) ||
    functions.has(node.init?.type) ||
    functions.has(type?.type) ||
    // Overloads, and those that curry: `{ (a): b; (c): d }`, `dual(2, …)`, `Effect.fn(…)(…)`.
    (type?.type === "TSTypeLiteral" && type.members.some((one: Node) => one.type === "TSCallSignatureDeclaration"))
  )
}

const declarationsIn = (statement: Node): ReadonlyArray<Node> => {
  const inner = statement.declaration ?? statement
  return inner.declarations ?? [inner]
}

const exportedBy = (module: string, { declared, text }: Source, statements: ReadonlyArray<Node>) => {
  const file = { declared, text }
  const describe = (statement: Node, node: Node, name: string): Exported => {
    const value = node.id?.typeAnnotation ?? node.init
    return {
      module,
      name,
      kind: kinds[node.type] ?? "value",
      comment: commentBefore(text, statement.start),
      type: value == null ? "" : oneLine(text.slice(value.start, value.end)).replace(/^: /, ""),
      isFunction: isFunction(node),
      error: errorOf(file, value),
      literals: literalsIn(node.typeAnnotation ?? node.init),
      members: [
        ...membersIn(file, node.superClass),
        ...(node.superTypeArguments?.params ?? []).flatMap((one: Node) => membersIn(file, one)),
        ...membersIn(file, node.body),
        ...shapesIn(file, node.typeAnnotation),
        ...membersIn(file, node.typeAnnotation)
      ]
    }
  }
  return statements.flatMap((statement): ReadonlyArray<Exported> => {
    if (statement.type !== "ExportNamedDeclaration") return []
    if (statement.declaration !== null) {
      return declarationsIn(statement).map((node) => describe(statement, node, node.id.name))
    }
    // `export { delete_ as delete }`: with a comment there, or at what it names.
    return statement.specifiers.map((one: Node) => {
      const [where, node] = declared.get(one.local.name) ?? [one, one]
      const named = describe(where, node, one.exported.name)
      return { ...named, comment: commentBefore(text, one.start) ?? named.comment }
    })
  })
}

const read = (place: string): { readonly header: Comment | undefined; readonly exported: ReadonlyArray<Exported> } => {
  const text = readFileSync(join(source, `${place}.ts`), "utf8")
  const { errors, program } = parseSync(`${place}.ts`, text, { lang: "ts", astType: "ts" })
  if (errors.length > 0) throw new Error(`${place}: ${errors[0]!.message}`)
  const statements: ReadonlyArray<Node> = program.body
  const declared = new Map(
    statements.flatMap((statement) =>
      declarationsIn(statement).flatMap((node) =>
        node.id?.name === undefined ? [] : [[node.id.name as string, [statement, node] as const]]
      )
    )
  )
  const [header] = /^\/\*\*[\s\S]*?\*\//.exec(text) ?? []
  return {
    header: header === undefined ? undefined : parseComment(header),
    exported: exportedBy(nameOf(place), { text, declared }, statements)
  }
}

const kinds: { readonly [type: string]: Exported["kind"] } = {
  TSInterfaceDeclaration: "interface",
  TSTypeAliasDeclaration: "type",
  ClassDeclaration: "class"
}

const all = new Map(modules.map((place) => [nameOf(place), read(place)]))

/** What stands at the head of each module. */
export const headers: ReadonlyMap<string, Comment | undefined> = new Map(
  Array.from(all, ([module, { header }]) => [module, header])
)

/** All that the modules export. A type and a value of one name are two. */
export const exported: ReadonlyArray<Exported> = [...all.values()].flatMap((one) => one.exported)
