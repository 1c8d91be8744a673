import type { ErrorCode } from '../errors.ts'
import type { Proof } from '../flows/proof.ts'
import type { Caller } from '../flows/step-up.ts'

/** The request headers that we look at. */
type HeaderName = 'content-type' | 'content-encoding' | 'content-length' | 'authorization' | 'cookie'

/** A request as the adapters hand it in: plain data and what is read only when it is needed. */
export interface HttpRequest {
  method: string
  /** Below the mount, without the query: `/totp/create/`. */
  path: string
  /** Where the endpoints are mounted: `/api`. */
  mount: string
  header: (name: HeaderName) => string | undefined
  body: HttpBody
  /** The address that anonymous calls are counted under; null where the platform tells none. */
  clientAddress: () => string | null
  /** Who is calling, by the host's own log-in; null: nobody. */
  caller: () => Promise<Caller | null>
  /** Tells the host that its session has proved a second factor. */
  verified: (proof: Proof) => Promise<void>
}

/**
 * Parsed by the framework before us, or what its parser failed with, or still to be read, up to a limit: null when there
 * is more than that.
 */
export type HttpBody =
  | { parsed: unknown }
  | { failed: ErrorCode }
  | { read: (limit: number) => Promise<Uint8Array | null> }

export interface HttpReply {
  status: number
  headers: Record<string, string>
  /** Null: no body. */
  body: string | null
}
