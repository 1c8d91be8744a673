import { readdirSync, readFileSync } from 'node:fs'

/** The folder of the package, with a slash at the end. */
export const ROOT = new URL('../', import.meta.url).pathname

/** A file of the repository, by its path from the root. */
export function readText(path: string): string {
  return readFileSync(ROOT + path, 'utf8')
}

/** Files under a folder with this ending, by their paths from that folder, sorted. */
export function filesUnder(folder: string, ending: string): string[] {
  const names = readdirSync(ROOT + folder, { recursive: true, encoding: 'utf8' })
  return names.filter((name) => name.endsWith(ending)).sort()
}

/** The documents of the repository. */
export const DOCUMENTS: readonly string[] = [
  ...readdirSync(ROOT).filter((name) => name.endsWith('.md')),
  ...filesUnder('docs', '.md').map((name) => `docs/${name}`),
]

/**
 * The rows of the table that has these columns, each by the column's name.
 *
 * @throws Error when there is not exactly one such table
 */
export function tableOf(document: string, columns: readonly string[]): Record<string, string>[] {
  const lines = readText(document).split('\n')
  const heads = lines.flatMap((line, index) => (cellsOf(line).join('|') === columns.join('|') ? [index] : []))
  const [head] = heads
  if (head === undefined || heads.length !== 1) throw new Error(`${document} has ${heads.length} such tables`)
  const rows = lines.slice(head + 2)
  const end = rows.findIndex((line) => !line.startsWith('|'))
  return rows.slice(0, end).map((line) => {
    const cells = cellsOf(line)
    return Object.fromEntries(columns.map((column, index) => [column, cells[index] ?? '']))
  })
}

function cellsOf(line: string): string[] {
  return line.startsWith('|')
    ? line
        .slice(1, line.lastIndexOf('|'))
        .split('|')
        .map((cell) => cell.trim())
    : []
}

/** What stands between backticks in a cell. */
export function codesIn(cell: string): string[] {
  return Array.from(cell.matchAll(/`([^`]+)`/g), ([, code]) => String(code))
}

/** A fenced block. */
export interface Fence {
  document: string
  /** The first word after the fence: `ts`. */
  language: string
  /** The words after it: `run`, `file=server.mjs`. */
  marks: readonly string[]
  code: string
  /** The line of the document that `code` begins on, from 1. */
  line: number
  /** What the comment `<!-- sample context … -->` right before the fence holds; empty where there is none. */
  context: string
}

const CONTEXT = '<!-- sample context'

/** The fenced blocks of a document, in order. */
export function fencesOf(document: string): Fence[] {
  const lines = readText(document).split('\n')
  const fences: Fence[] = []
  for (let start = 0; start < lines.length; start++) {
    const [, language, marks] = /^```(\S*)(.*)$/.exec(lines[start] ?? '') ?? []
    if (language === undefined || marks === undefined) continue
    const end = lines.indexOf('```', start + 1)
    if (end === -1) throw new Error(`${document}: the block of line ${start + 1} has no end`)
    fences.push({
      document,
      language,
      marks: marks.split(' ').filter(Boolean),
      code: textOf(lines.slice(start + 1, end)),
      line: start + 2,
      context: contextBefore(lines.slice(0, start)),
    })
    start = end
  }
  return fences
}

function contextBefore(lines: readonly string[]): string {
  if (lines.at(-1) !== '' || lines.at(-2) !== '-->') return ''
  const begin = lines.lastIndexOf(CONTEXT)
  return begin === -1 ? '' : textOf(lines.slice(begin + 1, -2))
}

function textOf(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join('')
}
