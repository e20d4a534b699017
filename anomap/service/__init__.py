"""The clinic node: images arrive over DICOM, results return to the archive, nothing is lost.

    peer --C-STORE--> receiver -> spool + jobs (sqlite) -> workers -> outbox -> sender --C-STORE or STOW-RS--> archive
                                                                                   <--commitment or QIDO-RS--

What has been promised to a peer is on the disk first. A job is one DICOM series; its way is

    receiving -> ready -> running -> outbox -> done
                            |          +-----> failed       (retried until the attempts are used up)
                            +-> refused                     (unusable images; a resend or late slices try again)
                            +-> superseded                  (more slices came while it ran)

Only this package knows pynetdicom. Logs, metrics and pages name series by hash and never hold a patient's data.
"""
