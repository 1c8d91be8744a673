import type { z } from 'zod'
import { type Endpoint, endpoints, type OperationId } from '../contract/endpoints.ts'
import { OPENAPI_PATH, openApiDocument } from '../contract/openapi.ts'
import type { Totp } from '../create-totp.ts'
import { TotpError } from '../errors.ts'
import { type Context, contextOf } from '../flows/context.ts'
import { enrolmentCaller } from '../flows/enforcement.ts'
import type { Caller } from '../flows/step-up.ts'
import type { JwtTokens } from '../jwt/index.ts'
import type { Recovery } from '../recovery/index.ts'
import { actions, type Call } from './actions.ts'
import { checkParsable, readBody } from './body.ts'
import { addressKey } from './client-address.ts'
import type { HttpReply, HttpRequest } from './message.ts'
import { NO_STORE, problemReply } from './problem.ts'

/** Answers a request, or null when the path is not ours. Never rejects. */
export type Handle = (request: HttpRequest) => Promise<HttpReply | null>

/** The modules that a host mounts beside the management of the second factor. */
export interface Modules {
  jwt?: JwtTokens | undefined
  recovery?: Recovery | undefined
}

/** The endpoints over plain objects: what every adapter calls. */
export function createHandle(totp: Totp, modules: Modules): Handle {
  const ctx = contextOf(totp)
  const { jwt, recovery } = modules
  const mounted: Endpoint['module'][] = [
    'totp',
    ...(jwt ? ['jwt' as const] : []),
    ...(recovery ? ['recovery' as const] : []),
  ]
  const routes = new Map<string, OperationId>(
    (Object.keys(endpoints) as OperationId[])
      .filter((id) => mounted.includes(endpoints[id].module))
      .map((id) => [`/${endpoints[id].path}`, id]),
  )
  let documentAt: ((mount: string) => string) | undefined
  const document = (mount: string): HttpReply => {
    documentAt ??= openApiDocument(mounted, ctx.policy)
    return { status: 200, headers: { ...NO_STORE, 'content-type': 'application/json' }, body: documentAt(mount) }
  }

  return async (request) => {
    const path = request.path.replace(/\/$/, '')
    const [route, id] = routes.has(path) ? [routes.get(path), ''] : [routes.get(`${folderOf(path)}/{id}`), lastOf(path)]
    const isDocument = path === `/${OPENAPI_PATH}`
    if (route === undefined && !isDocument) return null
    const { method } = route === undefined ? { method: 'GET' } : endpoints[route]
    if (request.method !== method) return methodNotAllowed(method)
    try {
      if (route === undefined) return document(request.mount)
      return await perform(ctx, { operationId: route, id, request, ...modules })
    } catch (error) {
      if (!(error instanceof TotpError) || error.code === 'unavailable') ctx.onError(error)
      return problemReply(error)
    }
  }
}

interface Called extends Modules {
  operationId: OperationId
  id: string
  request: HttpRequest
}

async function perform(ctx: Context, called: Called): Promise<HttpReply> {
  const { operationId, id, request, jwt, recovery } = called
  const row: Endpoint = endpoints[operationId]
  // First: a parser that fails has skipped what the host put between it and us, maybe a check of who may come here.
  checkParsable(request)
  const caller = row.access === 'caller' ? await callerOf(ctx, row, request) : null
  if (row.throttled) await checkRate(ctx, called, caller)
  const body = row.method === 'GET' ? {} : await readBody(request, row.body)
  const { header, verified } = request
  const cookies: string[] = []
  const setCookie = (cookie: string) => void cookies.push(cookie)
  // The row says which of these an action has; the table of actions is typed by the same row.
  const call = { ctx, caller, jwt, recovery, verified, id, header, setCookie } as Call
  const act = actions[operationId] as (call: Call, body: unknown) => Promise<unknown>
  const answer = reply(row, await act(call, body))
  const [cookie] = cookies
  return cookie === undefined ? answer : { ...answer, headers: { ...answer.headers, 'set-cookie': cookie } }
}

/** @throws TotpError `unauthenticated` when the host knows no caller, and no enrolment token opens this row */
async function callerOf(ctx: Context, row: Endpoint, request: HttpRequest): Promise<Caller> {
  const caller = await request.caller()
  if (caller !== null) return caller
  const enrolling = row.opensToEnrolment ? await enrolmentCaller(ctx, request.header('authorization')) : null
  if (enrolling === null) throw new TotpError('unauthenticated')
  return enrolling
}

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'))
}

function lastOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

/** @throws TotpError `throttled`; `unavailable` when the throttle cannot count */
async function checkRate(ctx: Context, { operationId, request }: Called, caller: Caller | null): Promise<void> {
  const rate = ctx.policy.throttle
  if (rate === null) return
  const address = caller ? null : request.clientAddress()
  const who = caller ? `user ${caller.id}` : `address ${address ? addressKey(address) : ''}`
  const { allowed, resetSeconds } = await ctx.throttle.count(`${operationId} ${who}`, rate, ctx.clock())
  if (!allowed) throw new TotpError('throttled', { retryAfterSeconds: resetSeconds, rate })
}

function reply(row: Endpoint, answer: unknown): HttpReply {
  if (row.reply === null) return { status: row.status, headers: { ...NO_STORE }, body: null }
  const schema: z.ZodType = row.reply
  // Through its schema, so that a member nobody declared cannot leave.
  const declared = schema.parse(answer, { jitless: true } as Parameters<typeof schema.parse>[1])
  const headers = { ...NO_STORE, 'content-type': 'application/json' }
  return { status: row.status, headers, body: JSON.stringify(declared) }
}

function methodNotAllowed(allow: string): HttpReply {
  const answer = problemReply(new TotpError('method_not_allowed'))
  return { ...answer, headers: { ...answer.headers, allow } }
}
