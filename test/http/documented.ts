import { expect } from 'vitest'
import { z } from 'zod'
import type { Answer } from './answer.ts'

type Schema = Record<string, unknown>

export interface Operation {
  operationId: string
  summary: string
  tags: string[]
  security: object[]
  requestBody?: { required: boolean; content: Record<string, { schema: Schema }> }
  responses: Record<string, { description: string; content?: Record<string, { schema: Schema }> }>
}

/** As much of an OpenAPI document as the tests read. */
export interface OpenApi {
  openapi: string
  info: { title: string; version: string }
  servers: { url: string }[]
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Schema>; securitySchemes: object }
}

const validators = new WeakMap<Schema, z.ZodType>()

/** Holds an answer to what the document says of its endpoint: status, media type, schema. */
export function expectDocumented(document: OpenApi, call: { method: string; path: string }, answer: Answer): void {
  // Refused before any operation is found.
  if (answer.outcome === '405 method_not_allowed') return
  const path = `/${call.path.replace(/\/?(\?.*)?$/, '')}/`
  const template = document.paths[path] ? path : path.replace(/[^/]+\/$/, '{id}/')
  const operation = document.paths[template]?.[call.method.toLowerCase()]
  if (operation === undefined) throw new Error(`${call.method} ${path} is not in the document`)
  const response = operation.responses[answer.status]
  expect(response, `${path} does not declare ${answer.outcome}`).toBeDefined()
  const type = answer.headers['content-type']
  expect(Object.keys(response?.content ?? {})).toEqual(type === undefined ? [] : [type])
  if (type === undefined) return
  const schema = response?.content?.[type]?.schema ?? {}
  const { error } = validatorOf(document, schema).safeParse(answer.body)
  expect(error, `${path} does not declare ${answer.text.slice(0, 200)}`).toBeUndefined()
}

function validatorOf(document: OpenApi, schema: Schema): z.ZodType {
  const known = validators.get(schema)
  if (known) return known
  const made = z.fromJSONSchema(resolve(document, schema) as Parameters<typeof z.fromJSONSchema>[0])
  validators.set(schema, made)
  return made
}

/** The schema with every `$ref` replaced by what it points to. */
function resolve(document: OpenApi, part: unknown): unknown {
  if (Array.isArray(part)) return part.map((item) => resolve(document, item))
  if (typeof part !== 'object' || part === null) return part
  const { $ref } = part as { $ref?: string }
  if ($ref !== undefined) {
    const name = $ref.replace('#/components/schemas/', '')
    expect(document.components.schemas).toHaveProperty(name)
    return resolve(document, document.components.schemas[name])
  }
  return Object.fromEntries(Object.entries(part).map(([name, value]) => [name, resolve(document, value)]))
}
