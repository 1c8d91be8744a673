import { resolve } from 'node:path'
import ts from 'typescript'
import manifest from '../package.json' with { type: 'json' }
import { ROOT } from './markdown.ts'

/** The compiler options of this project. */
export const COMPILER_OPTIONS: ts.CompilerOptions = ts.parseJsonConfigFileContent(
  ts.readConfigFile(`${ROOT}tsconfig.json`, ts.sys.readFile).config,
  ts.sys,
  ROOT,
).options

/** The doors of the package, and the source file that each one is built from. */
export const doors = Object.entries(manifest.exports)
  .flatMap(([name, door]) => (typeof door === 'object' ? [{ name, types: door.types }] : []))
  .map(({ name, types }) => ({ name, file: resolve(ROOT, types.replace('./dist/', 'src/').replace('.d.ts', '.ts')) }))

let program: ts.Program | undefined

/** The sources of all doors, type-checked; made once. */
export function doorProgram(): ts.Program {
  program ??= ts.createProgram(
    doors.map(({ file }) => file),
    COMPILER_OPTIONS,
  )
  return program
}

/** What each door exports, aliases resolved. */
export function exportsOf(program: ts.Program): { name: string; symbols: ts.Symbol[] }[] {
  const checker = program.getTypeChecker()
  return doors.map(({ name, file }) => {
    const tree = program.getSourceFile(file)
    const module = tree && checker.getSymbolAtLocation(tree)
    if (!module) throw new Error(`${file} exports nothing`)
    const resolved = (symbol: ts.Symbol) =>
      symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol
    return { name, symbols: checker.getExportsOfModule(module).map(resolved) }
  })
}
