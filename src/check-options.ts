/**
 * Every member of `Options` by name, so that a name that is missing here does not compile. `true` stands for a value that is
 * taken as a whole; a member that holds options of its own has their names.
 */
export type OptionNames<Options> = {
  readonly [Name in keyof Options]-?: true | OptionNames<Extract<Options[Name], object>>
}

interface Names {
  readonly [name: string]: true | Names
}

/**
 * Refuses an option that does not exist: a misspelled one would leave its default in force, and nobody would notice.
 * Members that are undefined are ignored, and so is an instance of a class, which may have members for itself.
 *
 * @throws TypeError that names the option with its path, and the nearest one that exists
 */
export function checkOptions<Options>(options: Options, names: OptionNames<Options>): void {
  checkLevel(options, names as Names, '')
}

function checkLevel(options: unknown, names: Names, path: string): void {
  if (!isPlain(options)) return
  for (const name of Object.keys(options)) {
    const value = options[name]
    if (value === undefined) continue
    const inner = Object.hasOwn(names, name) ? names[name] : undefined
    if (inner === undefined)
      throw new TypeError(`unknown option ${path}${name}${hint(name, namesIn(names), Object.keys(names))}`)
    if (inner !== true) checkLevel(value, inner, `${path}${name}.`)
  }
}

/** An object literal, of another realm too: its prototype has none. */
function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

interface Known {
  name: string
  /** With the levels above it: where it belongs. */
  path: string
}

/** The names of this level, and behind them those of the levels below: an option may only be at the wrong level. */
function namesIn(names: Names): Known[] {
  const below = Object.entries(names).flatMap(([outer, inner]) =>
    inner === true ? [] : namesIn(inner).map(({ name, path }) => ({ name, path: `${outer}.${path}` })),
  )
  return [...Object.keys(names).map((name) => ({ name, path: name })), ...below]
}

/** The error for an event that does not exist. */
export function unknownEvent(type: unknown, known: readonly string[]): TypeError {
  return new TypeError(
    `unknown event ${String(type)}${hint(
      String(type),
      known.map((name) => ({ name, path: name })),
      known,
    )}`,
  )
}

function hint(name: string, known: readonly Known[], listed: readonly string[]): string {
  const nearest = nearestOf(name, known)
  return nearest === undefined ? `; known: ${listed.join(', ')}` : `: did you mean ${nearest.path}?`
}

/** The known name that differs in the fewest letters, in a third of them at most; else one that begins with `name`. */
function nearestOf(name: string, known: readonly Known[]): Known | undefined {
  const typed = name.toLowerCase()
  const [nearest] = known
    .map((one) => ({ one, distance: distanceBetween(typed, one.name.toLowerCase()) }))
    .sort((left, right) => left.distance - right.distance)
  if (nearest && nearest.distance <= Math.max(1, Math.floor(name.length / 3))) return nearest.one
  return known.find((one) => typed.length > 2 && one.name.toLowerCase().startsWith(typed))
}

/** How many letters have to be added, left out or replaced (Levenshtein). */
function distanceBetween(left: string, right: string): number {
  let row = Array.from({ length: right.length + 1 }, (_, index) => index)
  for (const [index, letter] of [...left].entries()) {
    const next = [index + 1]
    for (let column = 0; column < right.length; column++) {
      const replaced = (row[column] ?? 0) + (letter === right[column] ? 0 : 1)
      next.push(Math.min(replaced, (row[column + 1] ?? 0) + 1, (next[column] ?? 0) + 1))
    }
    row = next
  }
  return row.at(-1) ?? 0
}
