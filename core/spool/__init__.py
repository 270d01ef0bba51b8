"""Images received by this computer: durable files, and the catalogue that knows them."""
