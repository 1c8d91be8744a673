export { type GivenClock, givenClock } from './given-clock.ts'
export { type Phone, phoneFor } from './phone.ts'
export { type StoreCase, storeCases } from './store-cases.ts'
