import type { Totp } from '../create-totp.ts'
import { TotpError } from '../errors.ts'
import { contextOf } from '../flows/context.ts'
import type { Proof } from '../flows/proof.ts'
import { type Caller, type Nobody, requireFresh } from '../flows/step-up.ts'
import type { HttpReply } from '../http/message.ts'
import { problemReply } from '../http/problem.ts'
import type { JwtTokens } from '../jwt/index.ts'
import type { Recovery } from '../recovery/index.ts'

/** What every adapter asks of the host; `Request` is the framework's. */
export interface HostOptions<Request> {
  /** Who is calling, by your own log-in; null, undefined or false for nobody. */
  caller: (request: Request) => Caller | Nobody | Promise<Caller | Nobody>
  /** Mounts the log-in endpoints; made by `jwtTokens` of `totp-kit/jwt`. */
  jwt?: JwtTokens
  /** Mounts the endpoints for users who lost their device; made by `accountRecovery` of `totp-kit/recovery`. */
  recovery?: Recovery
  /** Called when `totp/verify` has proved a second factor: write `proof.verifiedAt` into your session here. */
  onVerified?: (proof: Proof, request: Request) => void | Promise<void>
}

/** What a guarded route asks: who is calling, and how old the second factor may be. */
export interface GuardOptions<Request> extends Pick<HostOptions<Request>, 'caller'> {
  maxAgeSeconds: number
}

/** The parts of a core request that come from the host. */
export function hostParts<Request>({ caller, onVerified }: HostOptions<Request>, request: Request) {
  return {
    caller: async () => (await caller(request)) || null,
    verified: async (proof: Proof) => onVerified?.(proof, request),
  }
}

/** Null when the request may pass; otherwise the answer that refuses it. Any failure refuses. */
export async function refuseWithoutTwoFactor<Request>(
  totp: Totp,
  { caller, maxAgeSeconds }: GuardOptions<Request>,
  request: Request,
): Promise<HttpReply | null> {
  const ctx = contextOf(totp)
  try {
    await requireFresh(ctx, await caller(request), { maxAgeSeconds })
    return null
  } catch (error) {
    if (!(error instanceof TotpError) || error.code === 'unavailable') ctx.onError(error)
    return problemReply(error)
  }
}
