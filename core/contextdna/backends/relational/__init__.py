"""The tables of a relational database, over named statements that each dialect keeps in its own folder."""
