"""A loopback service that follows the published conformance statement of Azure's DICOM service (API version 2).

https://learn.microsoft.com/azure/healthcare-apis/dicom/dicom-services-conformance-statement-v2
"""

from tests.support.azure_service.faults import Fault, FaultKind, Faults
from tests.support.azure_service.service import AzureService
from tests.support.azure_service.sign_in import Client

__all__ = ["AzureService", "Client", "Fault", "FaultKind", "Faults"]
