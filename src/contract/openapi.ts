import { z } from 'zod'
import type { ErrorCode } from '../errors.ts'
import { type Endpoint, endpoints, refusalsOf } from './endpoints.ts'
import { PROBLEM_TYPE_BASE, problems } from './problems.ts'

/** Where the document itself is served. */
export const OPENAPI_PATH = 'totp/openapi.json'

/**
 * The OpenAPI 3.1 document of the modules that are mounted, as JSON: a function of the path under which the endpoints
 * stand, such as `/api`. Anybody may ask for it, and clients choose how that path is spelled, so everything else is made
 * here, once.
 */
export function openApiDocument(
  modules: readonly Endpoint['module'][],
  { issuer }: { issuer: string },
): (mount: string) => string {
  const rest = JSON.stringify(withoutServers(modules, issuer)).slice(1)
  return (mount) => `{"servers":${JSON.stringify([{ url: mount === '' ? '/' : mount }])},${rest}`
}

function withoutServers(modules: readonly Endpoint['module'][], issuer: string) {
  const rows = Object.entries(endpoints).filter(([, { module }]) => modules.includes(module))
  return {
    openapi: '3.1.0',
    info: { title: `${issuer}: two-factor authentication`, version: '1' },
    paths: Object.fromEntries(
      rows.map(([operationId, row]) => [`/${row.path}/`, { [row.method.toLowerCase()]: operation(operationId, row) }]),
    ),
    components: {
      schemas: { Problem: problemSchema },
      securitySchemes: { caller: { type: 'http', scheme: 'bearer', description: "The host's own log-in" } },
    },
  }
}

function operation(operationId: string, row: Endpoint) {
  const body = schemaOf(row.body, 'input')
  const fields = Object.keys(body.properties ?? {})
  const required = body.required !== undefined || operationId === 'verifySecondFactor'
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
        ? { description: 'Done', content: { 'application/json': { schema: schemaOf(row.reply, 'output') } } }
        : { description: 'Done; no body' },
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

function schemaOf(schema: z.ZodType, io: 'input' | 'output'): Record<string, unknown> & { properties?: object } {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { io })
  return json
}

const idParameter = { name: 'id', in: 'path', required: true, schema: { type: 'string', minLength: 1 } }

const problemSchema = {
  type: 'object',
  description: 'RFC 9457 problem details',
  required: ['type', 'title', 'status', 'detail', 'code'],
  properties: {
    type: { type: 'string', description: `${PROBLEM_TYPE_BASE} and the code` },
    title: { type: 'string' },
    status: { type: 'integer' },
    detail: { type: 'string', description: 'A sentence for people, safe to show' },
    code: { enum: Object.keys(problems) },
    attempts_left: {
      type: 'integer',
      description:
        'With a wrong code: further ones that are judged before one has to wait; then Retry-After says how long',
    },
    clock_offset_seconds: {
      type: 'integer',
      description:
        "With a code that would be right at another time: how far the app's clock is ahead; negative: behind",
    },
    errors: {
      type: 'object',
      description: 'Field name → what is wrong with it',
      additionalProperties: { type: 'array', items: { type: 'string' } },
    },
  },
}
