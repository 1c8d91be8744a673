import type { ErrorCode } from '../errors.ts'

/** Looks a request header up by its name in lower case. */
export type HeaderLookup = (name: string) => string | undefined

/** A request in plain data. */
export interface HttpRequest {
  /** `GET`, `POST`, … */
  method: string
  /** Below the basePath, without the query: `/totp/create/`. */
  path: string
  /** Where the endpoints are mounted, for the OpenAPI document: `/api`. Default: the root. */
  basePath?: string | undefined
  /** The headers, with names in lower case where it is a plain object; or a function that looks one up. */
  headers: Headers | Readonly<Record<string, string | readonly string[] | undefined>> | HeaderLookup
  /** Default: there is none. */
  body?: HttpBody | undefined
}

/**
 * The body: parsed by a framework before us, as text or bytes, or still to be read (up to `limit` bytes; null when there is
 * more than that). `failed`: a parser of the framework's refused it, and our answer says so in our words.
 */
export type HttpBody =
  | { parsed: unknown }
  | { text: string }
  | { bytes: Uint8Array }
  | { read: (limit: number) => Promise<Uint8Array | null> }
  | { failed: ErrorCode }

/** An answer in plain data. */
export interface HttpReply {
  status: number
  headers: Record<string, string>
  /** Null: no body. */
  body: string | null
}
