/**
 * The budgets that are not met, each with what was measured of the reason and what is planned. One that is met again is not
 * printed here, and one that fails without an entry says NO. `budgets`: matches their names in the table.
 */
export const OPEN = []
