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
  | {
      /** The body as a parser of the framework left it: an object for JSON. */
      parsed: unknown
    }
  | {
      /** The body as text. */
      text: string
    }
  | {
      /** The body as bytes. */
      bytes: Uint8Array
    }
  | {
      /** Reads up to `limit` bytes; null when there are more. */
      read: (limit: number) => Promise<Uint8Array | null>
    }
  | {
      /** Why a parser of the framework refused the body. */
      failed: ErrorCode
    }

/** An answer in plain data. */
export interface HttpReply {
  /** The HTTP status. */
  status: number
  /** The headers, with names in lower case. */
  headers: Record<string, string>
  /** Null: no body. */
  body: string | null
}
