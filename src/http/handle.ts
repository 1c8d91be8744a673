import type { z } from 'zod'
import { checkOptions, type OptionNames } from '../check-options.ts'
import type { UnixSeconds } from '../clock.ts'
import { type Endpoint, endpoints, type OperationId } from '../contract/endpoints.ts'
import { OPENAPI_PATH, openApiDocument, type SecurityScheme } from '../contract/openapi.ts'
import type { Totp } from '../create-totp.ts'
import { TotpError } from '../errors.ts'
import { causedBy, contextOf, type Context as FlowContext } from '../flows/context.ts'
import { type EnrollingCaller, enrollmentCaller } from '../flows/enforcement.ts'
import type { Proof } from '../flows/proof.ts'
import { type Caller, checkFreshness, type Freshness, type Nobody, requireFresh } from '../flows/step-up.ts'
import type { JwtTokens } from '../jwt/index.ts'
import type { Recovery } from '../recovery/index.ts'
import { actions, type Call } from './actions.ts'
import { checkParsable, readBody } from './body.ts'
import { addressIn, addressKey } from './client-address.ts'
import type { HeaderLookup, HttpReply, HttpRequest } from './message.ts'
import { NO_STORE, problemReply } from './problem.ts'

/** What the endpoints ask of the host. `Context` is the host's own: its request, event or ctx. */
export interface HostOptions<Context> {
  /**
   * Who is calling, by your own login; null, undefined or false for nobody. Throw `new TotpError('unauthenticated')` when
   * a token has expired: the answer is 401. Another `TotpError` gets the answer of its code. Any other error is a 503, for
   * the login could not be looked up; the error goes to `onError`.
   */
  caller: (context: Context) => Caller | Nobody | Promise<Caller | Nobody>
  /** Mounts the login endpoints; made by `jwtTokens` of `totp-kit/jwt`. Default: they are not there. */
  jwt?: JwtTokens | undefined
  /**
   * Mounts the endpoints for users who lost their device; made by `accountRecovery` of `totp-kit/recovery`. Default: they
   * are not there.
   */
  recovery?: Recovery | undefined
  /**
   * Called each time when the caller has proved a second factor: by `totp/confirm`, by `totp/verify`, and by a change with
   * `input_code`. Write `verifiedAt` and `generation` of the proof into your session here. An object that it returns (a new
   * token of yours) is merged into the answer, where that has a body. What it throws is answered as with `caller`. Default:
   * nobody is told.
   */
  onVerified?: ((proof: Proof, context: Context) => unknown) | undefined
  /** How your callers authenticate, for the OpenAPI document: a Security Scheme Object (§4.8.27). Default: HTTP bearer. */
  securityScheme?: SecurityScheme | undefined
}

export const HOST_OPTIONS: OptionNames<HostOptions<unknown>> = {
  caller: true,
  jwt: true,
  recovery: true,
  onVerified: true,
  securityScheme: true,
}

/** What an adapter hands on of its own options. They may be an instance of a class: a spread would lose its methods. */
export function hostOptionsOf<Context>(options: HostOptions<Context>): HostOptions<Context> {
  const { jwt, recovery, securityScheme } = options
  return {
    caller: (context) => options.caller(context),
    onVerified: (proof, context) => options.onVerified?.(proof, context),
    jwt,
    recovery,
    securityScheme,
  }
}

/** The options of {@link createHandle}. */
export interface HandleOptions<Context> extends HostOptions<Context> {
  /**
   * The client's address as your platform tells it, for counting anonymous calls. A port is left out. Null, and any text
   * that is not one address, counts as unknown: all such clients are counted together. Required with
   * `jwt` or `recovery`. Default: none.
   */
  clientAddress?: ((context: Context) => string | null | undefined) | undefined
}

const HANDLE_OPTIONS: OptionNames<HandleOptions<unknown>> = { ...HOST_OPTIONS, clientAddress: true }

/** The endpoints over plain objects: what every adapter is made of. */
export interface Handle<Context> {
  /**
   * Answers a request; null when the path is not ours. Never rejects.
   *
   * @param context - handed on to `caller`, `onVerified` and `clientAddress`
   */
  (request: HttpRequest, context: Context): Promise<HttpReply | null>
  /**
   * The guard: null when the caller proved a second factor at most `maxAgeSeconds` ago, otherwise the answer that refuses.
   * Rejects for a wrong `freshness` only.
   *
   * @throws TypeError for an unknown name in `freshness`; RangeError when `maxAgeSeconds` is out of range
   */
  require(freshness: Freshness, context: Context): Promise<HttpReply | null>
}

/**
 * The endpoints without a web framework.
 *
 * @example
 * ```ts
 * import { createHandle } from 'totp-kit/http'
 *
 * interface Context {
 *   userId: string | null
 * }
 * const handle = createHandle<Context>(totp, {
 *   caller: ({ userId }) => userId && { id: userId, accountName: 'ada@example.com' },
 * })
 * const reply = await handle({ method: 'GET', path: '/totp/status/', headers: {} }, { userId: '42' })
 * ```
 *
 * @throws TypeError for an unknown option, and when `jwt` or `recovery` is mounted without `clientAddress`
 */
export function createHandle<Context>(totp: Totp, options: HandleOptions<Context>): Handle<Context> {
  checkOptions(options, HANDLE_OPTIONS)
  const ctx = contextOf(totp)
  const { jwt, recovery, securityScheme } = options
  if ((jwt || recovery) && !options.clientAddress)
    throw new TypeError('jwt and recovery require the clientAddress option')
  const mounted: Endpoint['module'][] = [
    'totp',
    ...(jwt ? ['jwt' as const] : []),
    ...(recovery ? ['recovery' as const] : []),
  ]
  const routes = routesOf(
    (Object.keys(endpoints) as OperationId[]).filter((id) => mounted.includes(endpoints[id].module)),
  )
  let documentAt: ((basePath: string) => string) | undefined
  const document = (basePath: string): HttpReply => {
    documentAt ??= openApiDocument(mounted, { issuer: ctx.policy.issuer, securityScheme })
    return { status: 200, headers: { ...NO_STORE, 'content-type': 'application/json' }, body: documentAt(basePath) }
  }

  const handle = async (request: HttpRequest, context: Context): Promise<HttpReply | null> => {
    const path = request.path.replace(/\/$/, '')
    const [route, id] = routes.has(path) ? [routes.get(path), ''] : [routes.get(`${folderOf(path)}/{id}`), lastOf(path)]
    const isDocument = path === `/${OPENAPI_PATH}`
    if (route === undefined && !isDocument) return null
    const operationId = route?.get(request.method)
    const allowed = [...(route?.keys() ?? ['GET'])]
    if (!allowed.includes(request.method)) return methodNotAllowed(allowed.join(', '))
    try {
      if (operationId === undefined) return document(request.basePath ?? '')
      return await perform(ctx, { operationId, id, request, header: lookup(request.headers), options, context })
    } catch (error) {
      return refused(ctx, error)
    }
  }
  return Object.assign(handle, {
    async require(freshness: Freshness, context: Context): Promise<HttpReply | null> {
      checkFreshness(freshness)
      try {
        const caller = await options.caller(context)
        await requireFresh(causedBy(ctx, caller || {}), caller, freshness, ctx.clock())
        return null
      } catch (error) {
        return refused(ctx, error)
      }
    },
  })
}

/** For an adapter that knows the freshness of a route before its first request. */
export { checkFreshness }

function refused(ctx: FlowContext, error: unknown): HttpReply {
  if (!(error instanceof TotpError) || error.code === 'unavailable') ctx.onError(error)
  return problemReply(error)
}

interface Called<Context> {
  operationId: OperationId
  id: string
  request: HttpRequest
  header: HeaderLookup
  options: HandleOptions<Context>
  context: Context
}

async function perform<Context>(service: FlowContext, called: Called<Context>): Promise<HttpReply> {
  const { operationId, id, request, header, options, context } = called
  const row: Endpoint = endpoints[operationId]
  const body = request.body ?? { parsed: undefined }
  // First: a parser that fails has skipped what the host put between it and us, maybe a check of who may come here.
  checkParsable({ header, body })
  const host = row.access === 'caller' ? await options.caller(context) : null
  if (row.access === 'caller' && !host && !row.opensToEnrollment) throw new TotpError('unauthenticated')
  const [read] = await Promise.allSettled([row.method === 'GET' ? {} : readBody({ header, body }, row.body)])
  // Read once, and after the body: a client that sends it slowly must not have its code judged by an earlier time.
  const now = service.clock()
  const { caller, isEnrolling } = row.access === 'caller' ? await callerOf(service, host, header, now) : NOBODY
  const ctx = causedBy(service, caller ?? {})
  const session = caller && sessionOf(caller)
  if (row.throttled) await checkRate(ctx, called, caller, now)
  if (read.status === 'rejected') throw read.reason
  const cookies: string[] = []
  const setCookie = (cookie: string) => void cookies.push(cookie)
  let ofHost: object = {}
  const verified = async (proof: Proof) => {
    const members = await options.onVerified?.(proof, context)
    if (typeof members === 'object') ofHost = { ...ofHost, ...members }
  }
  const { jwt, recovery } = options
  // The row says which of these an action has; the table of actions is typed by the same row.
  const call = { ctx, now, caller, isEnrolling, session, jwt, recovery, verified, id, header, setCookie } as Call
  const act = actions[operationId] as (call: Call, body: unknown) => Promise<unknown>
  const answer = reply(row, await act(call, read.value), ofHost)
  const [cookie] = cookies
  return cookie === undefined ? answer : { ...answer, headers: { ...answer.headers, 'set-cookie': cookie } }
}

const NOBODY = { caller: null, isEnrolling: false }

/** @throws TotpError `unauthenticated` when the host knows no caller, and there is no enrollment token instead */
async function callerOf(ctx: FlowContext, host: Caller | Nobody, header: HeaderLookup, now: UnixSeconds) {
  if (host) return { caller: host, isEnrolling: false }
  const enrolling = await enrollmentCaller(ctx, header('authorization'), now)
  if (enrolling === null) throw new TotpError('unauthenticated')
  return { caller: enrolling, isEnrolling: true }
}

function lookup(headers: HttpRequest['headers']): HeaderLookup {
  if (typeof headers === 'function') return headers
  if (headers instanceof Headers) return (name) => headers.get(name) ?? undefined
  return (name) => {
    const value = headers[name]
    return typeof value === 'object' ? value.join(', ') : value
  }
}

/** What the caller's session is known by; a token for enrollment stands for the session until the login. */
function sessionOf(caller: Caller | EnrollingCaller): string | null {
  return 'enrollmentId' in caller ? `enrollment ${caller.enrollmentId}` : (caller.sessionId ?? null)
}

/** By path, and by method. */
function routesOf(operationIds: readonly OperationId[]): Map<string, Map<string, OperationId>> {
  const routes = new Map<string, Map<string, OperationId>>()
  for (const id of operationIds) {
    const path = `/${endpoints[id].path}`
    routes.set(path, (routes.get(path) ?? new Map()).set(endpoints[id].method, id))
  }
  return routes
}

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'))
}

function lastOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

/** @throws TotpError `throttled`; `unavailable` when the throttle cannot count */
async function checkRate<Context>(
  ctx: FlowContext,
  { operationId, options, context }: Called<Context>,
  caller: Caller | null,
  now: UnixSeconds,
): Promise<void> {
  const rate = ctx.policy.throttle
  if (rate === null) return
  const address = caller ? null : addressIn(options.clientAddress?.(context))
  const who = caller ? `user ${caller.id}` : `address ${address ? addressKey(address) : ''}`
  const { allowed, resetSeconds } = await ctx.throttle.count(`${operationId} ${who}`, rate, now)
  if (!allowed) throw new TotpError('throttled', { retryAfterSeconds: resetSeconds, rate })
}

/** @param ofHost - what the host adds: members of its own, which replace none of ours */
function reply(row: Endpoint, answer: unknown, ofHost: object): HttpReply {
  if (row.reply === null) return { status: row.status, headers: { ...NO_STORE }, body: null }
  const schema: z.ZodType = row.reply
  // Through its schema, so that a member nobody declared cannot leave.
  const declared = schema.parse(answer, { jitless: true } as Parameters<typeof schema.parse>[1]) as object
  const headers = { ...NO_STORE, 'content-type': 'application/json' }
  return { status: row.status, headers, body: JSON.stringify({ ...ofHost, ...declared }) }
}

function methodNotAllowed(allow: string): HttpReply {
  const answer = problemReply(new TotpError('method_not_allowed'))
  return { ...answer, headers: { ...answer.headers, allow } }
}
