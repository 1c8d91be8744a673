import { z } from 'zod'
import type { ErrorCode } from '../errors.ts'
import { type Endpoint, endpoints, refusalsOf } from './endpoints.ts'
import { names } from './fields.ts'
import { PROBLEM_TYPE_BASE, problems } from './problems.ts'

/** Where the document itself is served. */
export const OPENAPI_PATH = 'totp/openapi.json'

/**
 * The OpenAPI 3.1 document of the mounted modules, as JSON: a function of the base path of the endpoints, such as
 * `/api`. Anyone may request the document, and the client determines the spelling of the path, so everything else is
 * generated here, once.
 */
export function openApiDocument(
  modules: readonly Endpoint['module'][],
  { issuer, securityScheme = BEARER }: { issuer: string; securityScheme?: SecurityScheme | undefined },
): (basePath: string) => string {
  const rest = JSON.stringify(withoutServers(modules, issuer, securityScheme)).slice(1)
  return (basePath) => `{"servers":${JSON.stringify([{ url: basePath === '' ? '/' : basePath }])},${rest}`
}

/** How the host's callers authenticate: a Security Scheme Object of OpenAPI (§4.8.27), such as a cookie of its session. */
export type SecurityScheme = {
  /** The kind of scheme. */
  type: 'http' | 'apiKey' | 'oauth2' | 'openIdConnect' | 'mutualTLS'
} & Record<string, unknown>

const BEARER: SecurityScheme = {
  type: 'http',
  scheme: 'bearer',
  description: 'The access token or session of the host',
}

function withoutServers(modules: readonly Endpoint['module'][], issuer: string, securityScheme: SecurityScheme) {
  const schemas: Schemas = { Problem: problemSchema }
  const rows = Object.entries(endpoints).filter(([, { module }]) => modules.includes(module))
  const paths: Record<string, Record<string, object>> = {}
  for (const [operationId, row] of rows) {
    const path = `/${row.path}/`
    paths[path] = { ...paths[path], [row.method.toLowerCase()]: operation(operationId, row, schemas) }
  }
  return {
    openapi: '3.1.0',
    info: { title: `${issuer}: two-factor authentication`, version: '1' },
    paths,
    components: { schemas, securitySchemes: { caller: securityScheme } },
  }
}

type Schemas = Record<string, unknown>

/** @param schemas - receives the named schemas that the operation refers to */
function operation(operationId: string, row: Endpoint, schemas: Schemas) {
  const body = schemaOf(row.body, 'input', schemas)
  const fields = Object.keys(body.properties ?? {})
  const required = body.required !== undefined || body.oneOf !== undefined
  const content = { 'application/json': { schema: body }, 'application/x-www-form-urlencoded': { schema: body } }
  return {
    operationId,
    summary: row.summary,
    tags: [row.module],
    security: row.access === 'caller' ? [{ caller: [] }] : [],
    ...(row.path.endsWith('/{id}') ? { parameters: [idParameter] } : {}),
    ...(fields.length > 0 ? { requestBody: { required, content } } : {}),
    responses: {
      [row.status]: row.reply
        ? {
            description: 'Success',
            content: { 'application/json': { schema: schemaOf(row.reply, 'output', schemas) } },
          }
        : { description: 'Success, no body' },
      ...refusalResponses(refusalsOf(row)),
    },
  }
}

function refusalResponses(codes: readonly ErrorCode[]) {
  const statuses = [...new Set(codes.map((code) => problems[code].status))]
  return Object.fromEntries(
    statuses.map((status) => {
      const group = [...new Set(codes)].filter((code) => problems[code].status === status)
      const narrowed = { type: 'object', properties: { code: { enum: group } } }
      const schema = { allOf: [{ $ref: '#/components/schemas/Problem' }, narrowed] }
      return [status, { description: group.join(', '), content: { 'application/problem+json': { schema } } }]
    }),
  )
}

/**
 * A schema as JSON Schema. Named schemas are added to `schemas` and replaced by references.
 */
function schemaOf(
  schema: z.ZodType,
  io: 'input' | 'output',
  schemas: Schemas,
): Record<string, unknown> & { properties?: object } {
  const { $schema: _, $defs = {}, ...json } = z.toJSONSchema(schema, { io, metadata: names })
  const refer = <Part>(part: Part): Part =>
    JSON.parse(JSON.stringify(part).replaceAll('"#/$defs/', `"${SCHEMAS}`)) as Part
  for (const [name, { id: __, ...definition }] of Object.entries($defs)) schemas[name] = refer(definition)
  const { id, ...rest } = json
  if (id === undefined) return refer(rest)
  schemas[String(id)] = refer(rest)
  return { $ref: SCHEMAS + id }
}

const SCHEMAS = '#/components/schemas/'

const idParameter = { name: 'id', in: 'path', required: true, schema: { type: 'string', minLength: 1 } }

const problemSchema = {
  type: 'object',
  description: 'RFC 9457 problem details',
  required: ['type', 'title', 'status', 'detail', 'code'],
  properties: {
    type: { type: 'string', description: `${PROBLEM_TYPE_BASE} followed by the code` },
    title: { type: 'string' },
    status: { type: 'integer' },
    detail: { type: 'string', description: 'A sentence that is safe to show to the user' },
    code: { enum: Object.keys(problems) },
    retry_after_seconds: {
      type: 'integer',
      description: 'Seconds until the same request may succeed; the same as Retry-After',
    },
    attempts_left: {
      type: 'integer',
      description:
        'After an incorrect code: the number of attempts left before a delay. At 0, retry_after_seconds is the delay; without it, codes of this kind are locked',
    },
    totp_challenge_token: {
      type: 'string',
      description:
        'In a login with a delay: a new challenge token, which is still valid after the delay. Use it instead of the old one',
    },
    clock_offset_seconds: {
      type: 'integer',
      description:
        'With a code that would be correct at another time: how many seconds the clock of the app is ahead. Negative: behind',
    },
    errors: {
      type: 'object',
      description: 'Field name → error messages',
      additionalProperties: { type: 'array', items: { type: 'string' } },
    },
  },
}
