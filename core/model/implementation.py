"""Who wrote a file or opened an association, as DICOM names it (PS3.7 Annex D.3.3.2, PS3.10 section 7.1)."""

from __future__ import annotations

from typing import Final

IMPLEMENTATION_CLASS_UID: Final = "2.25.168613276215867231402093413467842973315"
IMPLEMENTATION_VERSION_NAME: Final = "DICOM_FERRY_01"  # at most 16 characters
