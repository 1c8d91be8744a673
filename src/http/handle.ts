import type { z } from 'zod'
import { type Endpoint, endpoints, type OperationId } from '../contract/endpoints.ts'
import { OPENAPI_PATH, openApiDocument } from '../contract/openapi.ts'
import type { Totp } from '../create-totp.ts'
import { TotpError } from '../errors.ts'
import { type Context, contextOf } from '../flows/context.ts'
import type { Caller } from '../flows/step-up.ts'
import type { JwtTokens } from '../jwt/index.ts'
import { actions, type Call } from './actions.ts'
import { checkParsable, readBody } from './body.ts'
import { addressKey } from './client-address.ts'
import type { HttpReply, HttpRequest } from './message.ts'
import { NO_STORE, problemReply } from './problem.ts'
import { memoryThrottle, storeThrottle, type Throttle } from './throttle.ts'

/** Answers a request, or null when the path is not ours. Never rejects. */
export type Handle = (request: HttpRequest) => Promise<HttpReply | null>

/**
 * The endpoints over plain objects: what every adapter calls.
 *
 * @param modules - `jwt`: mounts the log-in endpoints
 */
export function createHandle(totp: Totp, { jwt }: { jwt?: JwtTokens | undefined }): Handle {
  const ctx = contextOf(totp)
  const throttle = ctx.policy.throttleCounts === 'store' ? storeThrottle(ctx.store) : memoryThrottle()
  const mounted: Endpoint['module'][] = jwt ? ['totp', 'jwt'] : ['totp']
  const routes = new Map<string, OperationId>(
    (Object.keys(endpoints) as OperationId[])
      .filter((id) => mounted.includes(endpoints[id].module))
      .map((id) => [`/${endpoints[id].path}`, id]),
  )
  const document = (server: string): HttpReply => ({
    status: 200,
    headers: { ...NO_STORE, 'content-type': 'application/json' },
    body: JSON.stringify(openApiDocument({ modules: mounted, server, issuer: ctx.policy.issuer })),
  })

  return async (request) => {
    const path = request.path.replace(/\/$/, '')
    const id = routes.get(path)
    const isDocument = path === `/${OPENAPI_PATH}`
    if (id === undefined && !isDocument) return null
    const { method } = id === undefined ? { method: 'GET' } : endpoints[id]
    if (request.method !== method) return methodNotAllowed(method)
    try {
      return id === undefined ? document(request.mount) : await perform(ctx, { id, request, jwt, throttle })
    } catch (error) {
      if (!(error instanceof TotpError) || error.code === 'unavailable') ctx.onError(error)
      return problemReply(error)
    }
  }
}

async function perform(
  ctx: Context,
  called: { id: OperationId; request: HttpRequest; jwt: JwtTokens | undefined; throttle: Throttle },
): Promise<HttpReply> {
  const { id, request, jwt } = called
  const row: Endpoint = endpoints[id]
  // First: a parser that fails has skipped what the host put between it and us, maybe a check of who may come here.
  checkParsable(request)
  const caller = row.access === 'caller' ? await request.caller() : null
  if (row.access === 'caller' && caller === null) throw new TotpError('unauthenticated')
  if (row.throttled) await checkRate(ctx, called, caller)
  const body = row.method === 'GET' ? {} : await readBody(request, row.body)
  // The row says which of these an action has; the table of actions is typed by the same row.
  const call = { ctx, caller, jwt, verified: request.verified } as Call
  const act = actions[id] as (call: Call, body: unknown) => Promise<unknown>
  return reply(row, await act(call, body))
}

/** @throws TotpError `throttled`; `unavailable` when the throttle cannot count */
async function checkRate(
  ctx: Context,
  { id, request, throttle }: { id: OperationId; request: HttpRequest; throttle: Throttle },
  caller: Caller | null,
): Promise<void> {
  const rate = ctx.policy.throttle
  if (rate === null) return
  const who = caller ? `user ${caller.id}` : `address ${request.clientAddress ? addressKey(request.clientAddress) : ''}`
  const { allowed, resetSeconds } = await throttle.count(`${id} ${who}`, rate, ctx.clock())
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
