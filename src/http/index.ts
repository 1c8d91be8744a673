export type { SecurityScheme } from '../contract/openapi.ts'
export { createHandle, type Handle, type HandleOptions, type HostOptions } from './handle.ts'
export type { HeaderLookup, HttpBody, HttpReply, HttpRequest } from './message.ts'
