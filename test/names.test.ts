import { readdirSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import ts from 'typescript'
import { beforeAll, describe, expect, test } from 'vitest'
import { COMPILER_OPTIONS, doors } from './doors.ts'
import { DOCUMENTS, ROOT, readText } from './markdown.ts'

/** Written by other programs, or by other people: fixtures, recorded answers, lock files. */
const NOT_OURS = /node_modules|package-lock\.json|^test\/(vectors|version-1)\/|^test\/mutation\/reports\//
/** Holds the words that it looks for. */
const THIS_FILE = 'test/names.test.ts'

const files = ['src', 'demo', 'test', 'bench'].flatMap((folder) =>
  readdirSync(ROOT + folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => `${entry.parentPath}/${entry.name}`.replace(ROOT, '')),
)
const sources = [...files.filter((file) => /\.(ts|mjs|js|css|html|py)$/.test(file)), ...DOCUMENTS]
  .filter((file) => !NOT_OURS.test(file) && file !== THIS_FILE)
  .sort()

/** `file:line: word` for each word that matches, of names, texts and comments alike. */
function wordsIn(file: string, pattern: RegExp): string[] {
  return readText(file)
    .split('\n')
    .flatMap((line, index) => Array.from(line.matchAll(pattern), ([word]) => `${file}:${index + 1}: ${word}`))
}

describe('a name', () => {
  const BRITISH =
    /\b\w*(enrol(?!l)|(recogni|normali|resynchroni|synchroni|authori|initiali|seriali|organi|optimi|summari|minimi|maximi|customi|locali|randomi|capitali|memori)s(e|ing|ation)|behaviour|colour|favour|neighbour|honour|cancell(ed|ing)|(?<!aria-)labelled(?!by)|signalled|modelled|licence|artefact|judgement)\w*/gi

  test('and every other word is spelled as in American English', () => {
    expect(sources.flatMap((file) => wordsIn(file, BRITISH))).toEqual([])
    expect(files.filter((file) => !NOT_OURS.test(file) && file.match(BRITISH))).toEqual([])
  })

  test('of a limit begins with MAX_ or MIN_', () => {
    const LIMITS = /\b\w*(MOST|LEAST|LONGEST|SHORTEST|LARGEST|SMALLEST|LATEST|EARLIEST)(_[A-Z_]+)?\b/g

    expect(sources.filter((file) => !file.endsWith('.md')).flatMap((file) => wordsIn(file, LIMITS))).toEqual([])
  })
})

describe('a door', () => {
  let missing: string[]
  beforeAll(() => {
    missing = missingTypes()
  }, 120_000)

  test('exports every type that the signatures of its exports name', () => {
    expect(missing).toEqual([])
  })
})

/** `door: type (of the export that names it)` for each type of ours that is in no door and that a user would need. */
function missingTypes(): string[] {
  const declarations = emitDeclarations()
  const host = ts.createCompilerHost(OPTIONS)
  const { fileExists, readFile, getSourceFile, directoryExists = () => true } = host
  host.fileExists = (name) => declarations.has(name) || fileExists(name)
  host.directoryExists = (name) => name.startsWith(DECLARATIONS) || directoryExists(name)
  host.readFile = (name) => declarations.get(name) ?? readFile(name)
  host.getSourceFile = (name, target, ...rest) => {
    const text = declarations.get(name)
    return text === undefined ? getSourceFile(name, target, ...rest) : ts.createSourceFile(name, text, target, true)
  }
  const program = ts.createProgram(
    doors.map(({ file }) => declarationOf(file)),
    OPTIONS,
    host,
  )
  const checker = program.getTypeChecker()
  const resolved = (symbol: ts.Symbol) =>
    symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol
  const exportsOf = doors.map(({ name, file }) => {
    const tree = program.getSourceFile(declarationOf(file))
    const module = tree && checker.getSymbolAtLocation(tree)
    if (!module) throw new Error(`${file} exports nothing`)
    return { name, symbols: new Set(checker.getExportsOfModule(module).map(resolved)) }
  })
  const found = new Set<string>()
  for (const { name, symbols } of exportsOf) {
    const others = exportsOf.filter((door) => door.name !== name)
    for (const symbol of symbols) {
      for (const named of symbol.declarations?.flatMap((declaration) => typesNamedIn(declaration, checker)) ?? []) {
        const target = resolved(named)
        if (isOurs(target) && !symbols.has(target) && !others.some((door) => door.symbols.has(target))) {
          found.add(`${name}: ${target.name} (of ${symbol.name})`)
        }
      }
    }
  }
  return [...found].sort()

  function isOurs({ declarations: places = [], flags }: ts.Symbol): boolean {
    if (flags & (ts.SymbolFlags.TypeParameter | ts.SymbolFlags.TypeLiteral)) return false
    return places.some((place) => declarations.has(place.getSourceFile().fileName))
  }
}

/** The types that a declaration names, without what is private. */
function typesNamedIn(declaration: ts.Node, checker: ts.TypeChecker): ts.Symbol[] {
  const symbols: ts.Symbol[] = []
  const add = (name: ts.Node) => {
    const symbol = checker.getSymbolAtLocation(name)
    if (symbol) symbols.push(symbol)
  }
  const visit = (node: ts.Node): void => {
    if (ts.canHaveModifiers(node) && node.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.PrivateKeyword)) return
    if (ts.isTypeReferenceNode(node)) add(node.typeName)
    if (ts.isExpressionWithTypeArguments(node)) add(node.expression)
    // The keys of a value need no name: the editor shows them.
    if (ts.isTypeQueryNode(node) && !ts.isTypeOperatorNode(node.parent)) add(node.exprName)
    if (ts.isImportTypeNode(node) && node.qualifier) add(node.qualifier)
    ts.forEachChild(node, visit)
  }
  visit(declaration)
  return symbols
}

/** A folder that is in memory only: beside the sources, the compiler would read those instead. */
const DECLARATIONS = `${ROOT}declarations`

const OPTIONS: ts.CompilerOptions = {
  ...COMPILER_OPTIONS,
  noEmit: false,
  declaration: true,
  emitDeclarationOnly: true,
  rootDir: `${ROOT}src`,
  outDir: DECLARATIONS,
}

function declarationOf(file: string): string {
  return file.replace(`${ROOT}src`, DECLARATIONS).replace(/\.ts$/, '.d.ts')
}

/** The declarations of `src/`, as users get them. */
function emitDeclarations(): Map<string, string> {
  const program = ts.createProgram(
    doors.map(({ file }) => file),
    OPTIONS,
  )
  const declarations = new Map<string, string>()
  program.emit(undefined, (name, text) => declarations.set(resolve(dirname(name), name), text))
  return declarations
}
