/**
 * Who may do what: users, roles, permissions, and whether etcd asks at all.
 *
 * A user has roles, a role has permissions to read or write keys and ranges of keys. (What a node is in its cluster,
 * follower or leader, is told by the module `Role`.) Nothing is enforced until authentication is enabled, for which there
 * must be a user `root` with the role `root`, who may do everything. After that every client must say who it is: see the
 * `credentials` of `EtcdClient`.
 *
 * While authentication is enabled, these functions need a user with the role `root`, and others get `PermissionDenied`. The
 * exceptions are {@link authenticate} and what users ask about themselves ({@link userRoles}, {@link rolePermissions} of a
 * role that they have).
 *
 * Besides the reasons that each function names, all fail with `InvalidArgument` for a name that is empty, and with those of
 * every call (`EtcdError`). After a change has failed, `outcome` says whether it may have been made.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as EtcdClient from "./EtcdClient.ts"
import type * as EtcdError from "./EtcdError.ts"
import type { Header } from "./EtcdResponse.ts"
import * as Wire from "./internal/client/wire.ts"
import * as Json from "./internal/json.ts"
import * as Options from "./internal/options.ts"
import { Permission_Type, type Permission as WirePermission } from "./internal/proto/auth_pb.ts"
import * as Rpc from "./internal/proto/rpc_pb.ts"
import * as KeyRange from "./KeyRange.ts"

/**
 * What a permission allows: `"read"` gets, ranges and watches; `"write"` puts and deletes; `"readwrite"` both.
 *
 * @category models
 * @since 0.1.0
 */
export type Access = "read" | "write" | "readwrite"

/**
 * What a role may do with a range of keys.
 *
 * @category models
 * @since 0.1.0
 */
export interface Permission {
  /** What is allowed. */
  readonly access: Access
  /** With which keys. */
  readonly range: KeyRange.KeyRange
}

/**
 * Whether etcd asks who is calling.
 *
 * @category models
 * @since 0.1.0
 */
export interface Status {
  readonly header: Header
  /** Whether every request must be allowed to its user. */
  readonly enabled: boolean
  /** Grows with every change of users, roles and permissions. */
  readonly revision: bigint
}

type CallOptions = EtcdClient.CallOptions

/**
 * Looks after the users and roles of one cluster. Its functions are those of this module, which have more to say.
 *
 * @category models
 * @since 0.1.0
 */
export interface Service {
  /** From now on every request must be allowed to its user. More at {@link enable}. */
  readonly enable: (options?: CallOptions | undefined) => Effect.Effect<Header, EtcdError.EtcdError>
  /** From now on everybody may do everything. Users and roles are kept. */
  readonly disable: (options?: CallOptions | undefined) => Effect.Effect<Header, EtcdError.EtcdError>
  /** Whether authentication is enabled. etcd 3.5 and newer; fails with `Unsupported` before. */
  readonly status: (options?: CallOptions | undefined) => Effect.Effect<Status, EtcdError.EtcdError>
  /**
   * Asks for a token, as the client does by itself when it has credentials: to check a password, or for a program that
   * speaks to etcd in another way. More at {@link authenticate}.
   */
  readonly authenticate: (
    name: string,
    password: Redacted.Redacted<string>,
    options?: CallOptions | undefined
  ) => Effect.Effect<Redacted.Redacted<string>, EtcdError.EtcdError>
  /**
   * Adds a user. One without a password can only be told by a client certificate, whose common name is the user's. More
   * at {@link addUser}.
   */
  readonly addUser: (
    name: string,
    password?: Redacted.Redacted<string> | undefined,
    options?: CallOptions | undefined
  ) => Effect.Effect<Header, EtcdError.EtcdError>
  /** The roles that a user has. Fails with `UserNotFound`. */
  readonly userRoles: (
    name: string,
    options?: CallOptions | undefined
  ) => Effect.Effect<ReadonlyArray<string>, EtcdError.EtcdError>
  /** The names of all users. */
  readonly users: (options?: CallOptions | undefined) => Effect.Effect<ReadonlyArray<string>, EtcdError.EtcdError>
  /**
   * Deletes a user. Fails with `UserNotFound`, and with `InvalidAuthManagement` for `root` while authentication is
   * enabled.
   */
  readonly deleteUser: (name: string, options?: CallOptions | undefined) => Effect.Effect<Header, EtcdError.EtcdError>
  /**
   * Gives a user another password. The tokens that the user has are void then, also where it is the same password. A
   * client that is running authenticates anew, and fails with `AuthenticationFailed` where it has the old password:
   * give its `credentials` as an `Effect`. More at {@link changePassword}.
   */
  readonly changePassword: (
    name: string,
    password: Redacted.Redacted<string>,
    options?: CallOptions | undefined
  ) => Effect.Effect<Header, EtcdError.EtcdError>
  /** Gives a user a role. Fails with `UserNotFound` and `RoleNotFound`. */
  readonly grantRole: (
    user: string,
    role: string,
    options?: CallOptions | undefined
  ) => Effect.Effect<Header, EtcdError.EtcdError>
  /**
   * Takes a role from a user. Fails with `UserNotFound`, with `RoleNotGranted` if the user does not have it, and with
   * `InvalidAuthManagement` for the role `root` of the user `root` while authentication is enabled.
   */
  readonly revokeRole: (
    user: string,
    role: string,
    options?: CallOptions | undefined
  ) => Effect.Effect<Header, EtcdError.EtcdError>
  /**
   * Adds a role without permissions. Fails with `RoleExists`, and with `InvalidArgument` for a name of more than 32,768
   * bytes, at which etcd would stop with a panic.
   */
  readonly addRole: (name: string, options?: CallOptions | undefined) => Effect.Effect<Header, EtcdError.EtcdError>
  /** What a role may do. Fails with `RoleNotFound`. */
  readonly rolePermissions: (
    role: string,
    options?: CallOptions | undefined
  ) => Effect.Effect<ReadonlyArray<Permission>, EtcdError.EtcdError>
  /** The names of all roles. */
  readonly roles: (options?: CallOptions | undefined) => Effect.Effect<ReadonlyArray<string>, EtcdError.EtcdError>
  /**
   * Deletes a role, and takes it from all users. Fails with `RoleNotFound`, and with `InvalidAuthManagement` for `root`
   * while authentication is enabled.
   */
  readonly deleteRole: (name: string, options?: CallOptions | undefined) => Effect.Effect<Header, EtcdError.EtcdError>
  /**
   * Allows a role to read or write a key, or all keys of a range. It takes the place of what the role may do with
   * exactly this range so far. Fails with `RoleNotFound`, and with `InvalidArgument` for a range that no key can be in.
   */
  readonly grantPermission: (
    role: string,
    access: Access,
    range: KeyRange.Input,
    options?: CallOptions | undefined
  ) => Effect.Effect<Header, EtcdError.EtcdError>
  /**
   * Takes the permission for exactly this key or range from a role, whatever it allows. Fails with
   * `PermissionNotGranted` if there is none, and with `RoleNotFound`.
   */
  readonly revokePermission: (
    role: string,
    range: KeyRange.Input,
    options?: CallOptions | undefined
  ) => Effect.Effect<Header, EtcdError.EtcdError>
}

/**
 * The service for users, roles and permissions: a {@link Service}.
 *
 * @category services
 * @since 0.1.0
 */
export class EtcdAuth extends Context.Service<EtcdAuth, Service>()("effect-etcd/EtcdAuth") {}

const permissionTypes = {
  read: Permission_Type.READ,
  write: Permission_Type.WRITE,
  readwrite: Permission_Type.READWRITE
}

const accessOf: { readonly [type in Permission_Type]: Access } = {
  [Permission_Type.READ]: "read",
  [Permission_Type.WRITE]: "write",
  [Permission_Type.READWRITE]: "readwrite"
}

const isUnbounded = (end: Uint8Array): boolean => end.length === 1 && end[0] === 0

const rangeOf = ({ key, rangeEnd }: WirePermission): KeyRange.KeyRange => {
  if (rangeEnd.length === 0) return KeyRange.single(key)
  return isUnbounded(rangeEnd) ? KeyRange.from(key) : KeyRange.interval(key, rangeEnd)
}

const permission = (message: WirePermission): Permission => ({
  access: accessOf[message.permType],
  range: rangeOf(message)
})

const headerOf = (answer: { readonly header?: Rpc.ResponseHeader | undefined }): Header => Wire.header(answer.header)

const { method } = Rpc.Auth

/**
 * The longest key that etcd's database takes, in bytes. Of a longer name etcd notices that it cannot be kept only when it
 * is agreed on, and stops with a panic (seen with 3.4.23 and 3.7.3).
 */
const longestName = 32_768

/**
 * What bcrypt looks at of a password, in bytes. Newer versions of etcd refuse a longer one; older ones cut it off, so that
 * whoever knows the beginning is let in.
 */
const longestPassword = 72

const encoder = new TextEncoder()

const hasAtMost = (bytes: number, text: string): boolean => encoder.encode(text).length <= bytes

const newPassword: Options.Check = {
  accepts: (value) =>
    Options.secret.accepts(value) && hasAtMost(longestPassword, Redacted.value(value as Redacted.Redacted<string>)),
  due: `${Options.secret.due}, and has ${longestPassword} bytes at most`,
  show: (value) => (Options.secret.accepts(value) ? "one that has more" : Options.secret.show(value))
}

const nameOf = (what: string): Options.Check => {
  const text = Options.text(`the name of ${what}`)
  return {
    accepts: (value) => text.accepts(value) && hasAtMost(longestName, value as string),
    due: `${text.due} and has ${longestName} bytes at most`
  }
}

const userName = nameOf("a user")
const roleName = nameOf("a role")
const accessWord = Options.oneOf("read", "write", "readwrite")

const wrongUser = (who: string, user: unknown) => Options.wrongArgument(who, "the user", userName, user)

const wrongRole = (who: string, role: unknown) => Options.wrongArgument(who, "the role", roleName, role)

const wrongNewPassword = (who: string, password: unknown) =>
  Options.wrongArgument(who, "the password", newPassword, password)

/**
 * The service over a client: for a program with more than one client. It ends with the client.
 *
 * @example
 * ```ts
 * import { Effect, Redacted } from "effect"
 * import { EtcdAuth, EtcdClient } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const asRoot = yield* EtcdClient.make({
 *     endpoints: ["https://etcd-1.example:2379"],
 *     credentials: { username: "root", password: Redacted.make("root's secret") }
 *   })
 *   return yield* EtcdAuth.fromClient(asRoot).users()
 * })
 * const users = Effect.scoped(program)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromClient = (client: EtcdClient.Client): Service => {
  const ask = <I extends DescMessage, O extends DescMessage>(
    who: string,
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions | undefined
  ): Effect.Effect<MessageShape<O>, EtcdError.EtcdError> =>
    Options.wrongCall(who, options) ?? client.unary(method, request, options)

  return {
    enable: (options) => Effect.map(ask("EtcdAuth.enable", method.authEnable, {}, options), headerOf),
    disable: (options) => Effect.map(ask("EtcdAuth.disable", method.authDisable, {}, options), headerOf),
    status: (options) =>
      Effect.map(ask("EtcdAuth.status", method.authStatus, {}, options), (answer) =>
        Json.answer({
          header: headerOf(answer),
          enabled: answer.enabled,
          revision: answer.authRevision
        })
      ),
    authenticate: (name, password, options) =>
      wrongUser("EtcdAuth.authenticate", name) ??
      Options.wrongArgument("EtcdAuth.authenticate", "the password", Options.secret, password) ??
      Effect.map(
        ask("EtcdAuth.authenticate", method.authenticate, { name, password: Redacted.value(password) }, options),
        (answer) => Redacted.make(answer.token)
      ),
    addUser: (name, password, options) =>
      wrongUser("EtcdAuth.addUser", name) ??
      (password === undefined ? undefined : wrongNewPassword("EtcdAuth.addUser", password)) ??
      Effect.map(
        ask(
          "EtcdAuth.addUser",
          method.userAdd,
          {
            name,
            password: password === undefined ? "" : Redacted.value(password),
            options: { noPassword: password === undefined }
          },
          options
        ),
        headerOf
      ),
    userRoles: (name, options) =>
      wrongUser("EtcdAuth.userRoles", name) ??
      Effect.map(ask("EtcdAuth.userRoles", method.userGet, { name }, options), (answer) => answer.roles),
    users: (options) => Effect.map(ask("EtcdAuth.users", method.userList, {}, options), (answer) => answer.users),
    deleteUser: (name, options) =>
      wrongUser("EtcdAuth.deleteUser", name) ??
      Effect.map(ask("EtcdAuth.deleteUser", method.userDelete, { name }, options), headerOf),
    changePassword: (name, password, options) =>
      wrongUser("EtcdAuth.changePassword", name) ??
      wrongNewPassword("EtcdAuth.changePassword", password) ??
      Effect.map(
        ask(
          "EtcdAuth.changePassword",
          method.userChangePassword,
          { name, password: Redacted.value(password) },
          options
        ),
        headerOf
      ),
    grantRole: (user, role, options) =>
      wrongUser("EtcdAuth.grantRole", user) ??
      wrongRole("EtcdAuth.grantRole", role) ??
      Effect.map(ask("EtcdAuth.grantRole", method.userGrantRole, { user, role }, options), headerOf),
    revokeRole: (user, role, options) =>
      wrongUser("EtcdAuth.revokeRole", user) ??
      wrongRole("EtcdAuth.revokeRole", role) ??
      Effect.map(ask("EtcdAuth.revokeRole", method.userRevokeRole, { name: user, role }, options), headerOf),
    addRole: (name, options) =>
      wrongRole("EtcdAuth.addRole", name) ??
      Effect.map(ask("EtcdAuth.addRole", method.roleAdd, { name }, options), headerOf),
    rolePermissions: (role, options) =>
      wrongRole("EtcdAuth.rolePermissions", role) ??
      Effect.map(ask("EtcdAuth.rolePermissions", method.roleGet, { role }, options), (answer) =>
        answer.perm.map(permission)
      ),
    roles: (options) => Effect.map(ask("EtcdAuth.roles", method.roleList, {}, options), (answer) => answer.roles),
    deleteRole: (name, options) =>
      wrongRole("EtcdAuth.deleteRole", name) ??
      Effect.map(ask("EtcdAuth.deleteRole", method.roleDelete, { role: name }, options), headerOf),
    grantPermission: (role, access, input, options) =>
      wrongRole("EtcdAuth.grantPermission", role) ??
      Options.wrongArgument("EtcdAuth.grantPermission", "the access", accessWord, access) ??
      Options.wrongArgument("EtcdAuth.grantPermission", "the range", Options.rangeOfKeys, input) ??
      Effect.suspend(() => {
        const { end, key } = KeyRange.fromInput(input)
        const perm = { permType: permissionTypes[access], key, rangeEnd: end }
        return Effect.map(
          ask("EtcdAuth.grantPermission", method.roleGrantPermission, { name: role, perm }, options),
          headerOf
        )
      }),
    revokePermission: (role, input, options) =>
      wrongRole("EtcdAuth.revokePermission", role) ??
      Options.wrongArgument("EtcdAuth.revokePermission", "the range", Options.range, input) ??
      Effect.suspend(() => {
        const { end, key } = KeyRange.fromInput(input)
        return Effect.map(
          ask("EtcdAuth.revokePermission", method.roleRevokePermission, { role, key, rangeEnd: end }, options),
          headerOf
        )
      })
  }
}

/**
 * Provides {@link EtcdAuth} over the {@link EtcdClient.EtcdClient} that is there. `EtcdLayer.connect` provides it with
 * all the others.
 *
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import { EtcdClient, EtcdAuth } from "effect-etcd"
 *
 * const live = EtcdAuth.layer.pipe(Layer.provide(EtcdClient.layer({ endpoints: ["127.0.0.1:2379"] })))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<EtcdAuth, never, EtcdClient.EtcdClient> = Layer.effect(
  EtcdAuth,
  Effect.map(EtcdClient.EtcdClient, fromClient)
)

/**
 * From now on every request must be allowed to its user.
 *
 * Fails with `RootUserNotFound` if there is no user `root`, and with `RootRoleNotGranted` if that user does not have the
 * role `root`. A client without credentials can do nothing any more afterwards.
 *
 * @example
 * ```ts
 * import { Effect, Redacted } from "effect"
 * import { EtcdAuth, KeyRange } from "effect-etcd"
 *
 * const secure = Effect.gen(function*() {
 *   yield* EtcdAuth.addUser("root", Redacted.make("root's secret"))
 *   yield* EtcdAuth.addRole("root")
 *   yield* EtcdAuth.grantRole("root", "root")
 *   yield* EtcdAuth.addRole("app")
 *   yield* EtcdAuth.grantPermission("app", "readwrite", KeyRange.prefix("app/"))
 *   yield* EtcdAuth.addUser("app", Redacted.make("app's secret"))
 *   yield* EtcdAuth.grantRole("app", "app")
 *   yield* EtcdAuth.enable()
 * })
 * ```
 *
 * @category switching
 * @since 0.1.0
 */
export const enable = (options?: CallOptions | undefined): Effect.Effect<Header, EtcdError.EtcdError, EtcdAuth> =>
  EtcdAuth.use((auth) => auth.enable(options))

/**
 * From now on everybody may do everything. Users and roles are kept. Succeeds where authentication is not enabled.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdAuth } from "effect-etcd"
 *
 * // Who root is can only be changed like this.
 * const replaceRoot = EtcdAuth.disable().pipe(
 *   Effect.andThen(EtcdAuth.deleteUser("root")),
 *   Effect.andThen(EtcdAuth.addUser("root")), // told by a client certificate from now on
 *   Effect.andThen(EtcdAuth.grantRole("root", "root")),
 *   Effect.andThen(EtcdAuth.enable())
 * )
 * ```
 *
 * @category switching
 * @since 0.1.0
 */
export const disable = (options?: CallOptions | undefined): Effect.Effect<Header, EtcdError.EtcdError, EtcdAuth> =>
  EtcdAuth.use((auth) => auth.disable(options))

/**
 * Whether authentication is enabled. etcd 3.5 and newer; fails with `Unsupported` before.
 *
 * If it is, etcd 3.5 and 3.6 answer only users with the role `root`: others get `PermissionDenied`, or without credentials
 * `UserNameEmpty`. 3.7 answers everybody.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdAuth } from "effect-etcd"
 *
 * const isSecured = Effect.map(EtcdAuth.status(), ({ enabled }) => enabled)
 * ```
 *
 * @category switching
 * @since 0.1.0
 */
export const status = (options?: CallOptions | undefined): Effect.Effect<Status, EtcdError.EtcdError, EtcdAuth> =>
  EtcdAuth.use((auth) => auth.status(options))

/**
 * Asks for a token, as the client does by itself when it has credentials: to check a password, or for a program that
 * speaks to etcd in another way.
 *
 * Fails with `AuthenticationFailed` if name or password is wrong, and with `AuthNotEnabled`.
 *
 * @example
 * ```ts
 * import { Effect, Redacted } from "effect"
 * import { EtcdAuth } from "effect-etcd"
 *
 * const isRight = (name: string, password: string) =>
 *   EtcdAuth.authenticate(name, Redacted.make(password)).pipe(
 *     Effect.as(true),
 *     Effect.catchReason("EtcdError", "AuthenticationFailed", () => Effect.succeed(false))
 *   )
 * ```
 *
 * @category switching
 * @since 0.1.0
 */
export const authenticate = (
  name: string,
  password: Redacted.Redacted<string>,
  options?: CallOptions | undefined
): Effect.Effect<Redacted.Redacted<string>, EtcdError.EtcdError, EtcdAuth> =>
  EtcdAuth.use((auth) => auth.authenticate(name, password, options))

/**
 * Adds a user. One without a password can only be told by a client certificate, whose common name is the user's.
 *
 * Fails with `UserExists`, and with `InvalidArgument` if the name is empty or has more than 32,768 bytes (etcd would stop
 * with a panic), or if a password that is given is empty (etcd would take it, and let in whoever gives an empty one) or
 * has more than 72 bytes (etcd would look at no more, or refuse it).
 *
 * @example
 * ```ts
 * import { Effect, Redacted } from "effect"
 * import { EtcdAuth } from "effect-etcd"
 *
 * const users = Effect.gen(function*() {
 *   yield* EtcdAuth.addUser("app", Redacted.make("app's secret"))
 *   yield* EtcdAuth.addUser("worker.example.com") // told by a client certificate with this common name
 * })
 * ```
 *
 * @category users
 * @since 0.1.0
 */
export const addUser = (
  name: string,
  password?: Redacted.Redacted<string> | undefined,
  options?: CallOptions | undefined
): Effect.Effect<Header, EtcdError.EtcdError, EtcdAuth> => EtcdAuth.use((auth) => auth.addUser(name, password, options))

/**
 * The roles that a user has. Fails with `UserNotFound`.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdAuth } from "effect-etcd"
 *
 * const isOperator = (user: string) => Effect.map(EtcdAuth.userRoles(user), (roles) => roles.includes("operator"))
 * ```
 *
 * @category users
 * @since 0.1.0
 */
export const userRoles = (
  name: string,
  options?: CallOptions | undefined
): Effect.Effect<ReadonlyArray<string>, EtcdError.EtcdError, EtcdAuth> =>
  EtcdAuth.use((auth) => auth.userRoles(name, options))

/**
 * The names of all users.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdAuth } from "effect-etcd"
 *
 * const rolesOfAll = Effect.gen(function*() {
 *   const users = yield* EtcdAuth.users()
 *   return yield* Effect.forEach(users, (user) =>
 *     Effect.map(EtcdAuth.userRoles(user), (roles) => ({ user, roles }))
 *   )
 * })
 * ```
 *
 * @category users
 * @since 0.1.0
 */
export const users = (
  options?: CallOptions | undefined
): Effect.Effect<ReadonlyArray<string>, EtcdError.EtcdError, EtcdAuth> => EtcdAuth.use((auth) => auth.users(options))

/**
 * Deletes a user. Fails with `UserNotFound`, and with `InvalidAuthManagement` for `root` while authentication is
 * enabled. The tokens that the user has are void then.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdAuth } from "effect-etcd"
 *
 * const leaves = EtcdAuth.deleteUser("alice").pipe(
 *   Effect.catchReason("EtcdError", "UserNotFound", () => Effect.void) // somebody was quicker
 * )
 * ```
 *
 * @category users
 * @since 0.1.0
 */
export const deleteUser = (
  name: string,
  options?: CallOptions | undefined
): Effect.Effect<Header, EtcdError.EtcdError, EtcdAuth> => EtcdAuth.use((auth) => auth.deleteUser(name, options))

/**
 * Gives a user another password. The tokens that the user has are void then, also where it is the same password. A client
 * that is running authenticates anew, and fails with `AuthenticationFailed` where it has the old password: give its
 * `credentials` as an `Effect`.
 *
 * Fails with `UserNotFound`, and with `InvalidArgument` for a password that {@link addUser} does not take.
 *
 * @example
 * ```ts
 * import { Redacted } from "effect"
 * import { EtcdAuth } from "effect-etcd"
 *
 * const rotate = (password: string) => EtcdAuth.changePassword("app", Redacted.make(password))
 * ```
 *
 * @category users
 * @since 0.1.0
 */
export const changePassword = (
  name: string,
  password: Redacted.Redacted<string>,
  options?: CallOptions | undefined
): Effect.Effect<Header, EtcdError.EtcdError, EtcdAuth> =>
  EtcdAuth.use((auth) => auth.changePassword(name, password, options))

/**
 * Gives a user a role. Fails with `UserNotFound` and `RoleNotFound`.
 *
 * @example
 * ```ts
 * import { Effect, Redacted } from "effect"
 * import { EtcdAuth } from "effect-etcd"
 *
 * const joins = EtcdAuth.addUser("alice", Redacted.make("her secret")).pipe(
 *   Effect.andThen(EtcdAuth.grantRole("alice", "operator"))
 * )
 * ```
 *
 * @category users
 * @since 0.1.0
 */
export const grantRole = (
  user: string,
  role: string,
  options?: CallOptions | undefined
): Effect.Effect<Header, EtcdError.EtcdError, EtcdAuth> => EtcdAuth.use((auth) => auth.grantRole(user, role, options))

/**
 * Takes a role from a user. Fails with `UserNotFound`, with `RoleNotGranted` if the user does not have it, and with
 * `InvalidAuthManagement` for the role `root` of the user `root` while authentication is enabled.
 *
 * @example
 * ```ts
 * import { EtcdAuth } from "effect-etcd"
 *
 * const demote = EtcdAuth.revokeRole("alice", "operator")
 * ```
 *
 * @category users
 * @since 0.1.0
 */
export const revokeRole = (
  user: string,
  role: string,
  options?: CallOptions | undefined
): Effect.Effect<Header, EtcdError.EtcdError, EtcdAuth> => EtcdAuth.use((auth) => auth.revokeRole(user, role, options))

/**
 * Adds a role without permissions. Fails with `RoleExists`, and with `InvalidArgument` for a name of more than 32,768
 * bytes, at which etcd would stop with a panic.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdAuth, KeyRange } from "effect-etcd"
 *
 * const operator = EtcdAuth.addRole("operator").pipe(
 *   Effect.catchReason("EtcdError", "RoleExists", () => Effect.void),
 *   Effect.andThen(EtcdAuth.grantPermission("operator", "readwrite", KeyRange.prefix("jobs/")))
 * )
 * ```
 *
 * @category roles
 * @since 0.1.0
 */
export const addRole = (
  name: string,
  options?: CallOptions | undefined
): Effect.Effect<Header, EtcdError.EtcdError, EtcdAuth> => EtcdAuth.use((auth) => auth.addRole(name, options))

/**
 * What a role may do. Fails with `RoleNotFound`.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdAuth } from "effect-etcd"
 *
 * const mayWrite = Effect.map(
 *   EtcdAuth.rolePermissions("operator"),
 *   (permissions) => permissions.filter(({ access }) => access !== "read").map(({ range }) => range)
 * )
 * ```
 *
 * @category roles
 * @since 0.1.0
 */
export const rolePermissions = (
  role: string,
  options?: CallOptions | undefined
): Effect.Effect<ReadonlyArray<Permission>, EtcdError.EtcdError, EtcdAuth> =>
  EtcdAuth.use((auth) => auth.rolePermissions(role, options))

/**
 * The names of all roles.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdAuth } from "effect-etcd"
 *
 * const permissionsOfAll = Effect.gen(function*() {
 *   const roles = yield* EtcdAuth.roles()
 *   return yield* Effect.forEach(roles, (role) =>
 *     Effect.map(EtcdAuth.rolePermissions(role), (permissions) => ({ role, permissions }))
 *   )
 * })
 * ```
 *
 * @category roles
 * @since 0.1.0
 */
export const roles = (
  options?: CallOptions | undefined
): Effect.Effect<ReadonlyArray<string>, EtcdError.EtcdError, EtcdAuth> => EtcdAuth.use((auth) => auth.roles(options))

/**
 * Deletes a role, and takes it from all users. Fails with `RoleNotFound`, and with `InvalidAuthManagement` for `root`
 * while authentication is enabled.
 *
 * @example
 * ```ts
 * import { EtcdAuth } from "effect-etcd"
 *
 * const retired = EtcdAuth.deleteRole("importer")
 * ```
 *
 * @category roles
 * @since 0.1.0
 */
export const deleteRole = (
  name: string,
  options?: CallOptions | undefined
): Effect.Effect<Header, EtcdError.EtcdError, EtcdAuth> => EtcdAuth.use((auth) => auth.deleteRole(name, options))

/**
 * Allows a role to read or write a key, or all keys of a range. It takes the place of what the role may do with
 * exactly this range so far. Fails with `RoleNotFound`, and with `InvalidArgument` for a range that no key can be in.
 *
 * @example
 * ```ts
 * import { EtcdAuth, KeyRange } from "effect-etcd"
 *
 * const readSettings = EtcdAuth.grantPermission("guest", "read", KeyRange.prefix("settings/"))
 * ```
 *
 * @category roles
 * @since 0.1.0
 */
export const grantPermission = (
  role: string,
  access: Access,
  range: KeyRange.Input,
  options?: CallOptions | undefined
): Effect.Effect<Header, EtcdError.EtcdError, EtcdAuth> =>
  EtcdAuth.use((auth) => auth.grantPermission(role, access, range, options))

/**
 * Takes the permission for exactly this key or range from a role, whatever it allows. Fails with
 * `PermissionNotGranted` if there is none, and with `RoleNotFound`.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdAuth } from "effect-etcd"
 *
 * const allRevoked = Effect.gen(function*() {
 *   const permissions = yield* EtcdAuth.rolePermissions("guest")
 *   yield* Effect.forEach(permissions, ({ range }) => EtcdAuth.revokePermission("guest", range))
 * })
 * ```
 *
 * @category roles
 * @since 0.1.0
 */
export const revokePermission = (
  role: string,
  range: KeyRange.Input,
  options?: CallOptions | undefined
): Effect.Effect<Header, EtcdError.EtcdError, EtcdAuth> =>
  EtcdAuth.use((auth) => auth.revokePermission(role, range, options))
