import type { z } from 'zod'
import { TotpError } from '../errors.ts'
import type { HeaderLookup, HttpBody } from './message.ts'

/** 16 KiB: a body of ours holds a token and a code; better-auth was seen to process a code of 20 MB. */
const MAX_BODY_BYTES = 16 * 1024

interface Headers {
  header: HeaderLookup
}

interface WithBody extends Headers {
  body: HttpBody
}

/**
 * The body, checked against the endpoint's schema. Members that the schema does not name are dropped here.
 *
 * @throws TotpError `payload_too_large`, `unsupported_media_type`, `malformed_json`, `validation_failed`
 */
export async function readBody<T>(request: WithBody, schema: z.ZodType<T>): Promise<T> {
  const members = await readMembers(request)
  // Without generated code: hosts may forbid eval, and a global setting would change the host's own zod.
  const result = schema.safeParse(members, { jitless: true } as Parameters<typeof schema.safeParse>[1])
  if (result.success) return result.data
  throw new TotpError('validation_failed', { fields: fieldErrors(result.error.issues) })
}

/**
 * Passes unless a parser of the framework's failed with the body.
 *
 * @throws TotpError as {@link readBody}
 */
export function checkParsable(request: WithBody): void {
  if (!('failed' in request.body)) return
  checkLength(request)
  // A parser that reads what we do not take fails in ways of its own: what is wrong then is the media type.
  mediaTypeOf(request)
  throw new TotpError(request.body.failed)
}

async function readMembers({ body, ...request }: WithBody): Promise<Record<string, unknown>> {
  checkLength(request)
  if ('parsed' in body) return readParsed(request, body.parsed)
  const bytes = await readBytes(body)
  if (bytes === null) throw new TotpError('payload_too_large')
  if (bytes.length === 0) return {}
  const type = mediaTypeOf(request)
  const text = decodeText(bytes)
  return type === 'form' ? readForm(text) : readJson(text)
}

/** Null when there are too many. */
async function readBytes(body: HttpBody): Promise<Uint8Array | null> {
  if ('read' in body) return body.read(MAX_BODY_BYTES)
  const bytes = 'text' in body ? Buffer.from(body.text) : 'bytes' in body ? body.bytes : null
  return bytes !== null && bytes.length > MAX_BODY_BYTES ? null : bytes
}

function checkLength(request: Headers): void {
  if (Number(request.header('content-length') ?? 0) > MAX_BODY_BYTES) throw new TotpError('payload_too_large')
}

function readParsed(request: Headers, parsed: unknown): Record<string, unknown> {
  if (parsed === undefined || parsed === null) {
    if (parsed === null && request.header('content-type') !== undefined) throw new TotpError('malformed_json')
    return {}
  }
  // A body without a declared length, let through by a parser with a higher limit than ours.
  if (request.header('content-length') === undefined && !fits(parsed)) throw new TotpError('payload_too_large')
  if (request.header('content-type') !== undefined) mediaTypeOf(request)
  return asObject(parsed)
}

function fits(parsed: unknown): boolean {
  try {
    return Buffer.byteLength(JSON.stringify(parsed)) <= MAX_BODY_BYTES
  } catch (error) {
    // Nested so deep that it cannot be written down again.
    if (error instanceof RangeError) return false
    throw error
  }
}

function mediaTypeOf(request: Headers): 'json' | 'form' {
  const encoding = request.header('content-encoding') ?? 'identity'
  const [type = '', ...parameters] = (request.header('content-type') ?? '').toLowerCase().split(';')
  const charset = parameters
    .map((parameter) => /^\s*charset\s*=\s*"?([^"\s]*)"?\s*$/.exec(parameter)?.[1])
    .find(Boolean)
  if (encoding !== 'identity' || (charset !== undefined && charset !== 'utf-8' && charset !== 'utf8')) {
    throw new TotpError('unsupported_media_type')
  }
  if (type.trim() === 'application/json') return 'json'
  if (type.trim() === 'application/x-www-form-urlencoded') return 'form'
  throw new TotpError('unsupported_media_type')
}

function decodeText(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new TotpError('malformed_json')
  }
}

function readJson(text: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new TotpError('malformed_json')
  }
  return asObject(value)
}

/** A field that is sent twice becomes a list, which no schema of ours takes. */
function readForm(text: string): Record<string, unknown> {
  const members = new Map<string, string | string[]>()
  for (const [name, value] of new URLSearchParams(text)) {
    const before = members.get(name)
    members.set(name, before === undefined ? value : [before, value].flat())
  }
  return Object.fromEntries(members)
}

function asObject(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new TotpError('malformed_json')
  return value as Record<string, unknown>
}

/** Our own words for the first thing that is wrong with each field; none repeats what was sent. */
function fieldErrors(issues: readonly z.core.$ZodIssue[]): Record<string, string[]> {
  const fields: Record<string, string[]> = {}
  for (const issue of issues) {
    const name = String(issue.path[0] ?? 'body')
    fields[name] ??= [wordingOf(issue)]
  }
  return fields
}

function wordingOf(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `This field is required and must be a ${issue.expected}.`
    case 'too_small':
      return 'This field must not be blank.'
    case 'too_big':
      return `This field must have at most ${issue.maximum} characters.`
    default:
      return issue.message
  }
}
