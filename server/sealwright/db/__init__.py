"""The database. SQLAlchemy lives only here; what leaves is `model/`.

`database.Database` opens transactions; one module a noun holds its queries, each of which takes the
`Transaction` first and, where the noun belongs to a tenant, the organization's id second.
"""

from sealwright.db.database import Database, Transaction

__all__ = ["Database", "Transaction"]
