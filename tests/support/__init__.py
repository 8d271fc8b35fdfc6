"""What tests share: a Redis of their own, a proxy that does harm, and waiting for a predicate."""
