# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""The two ways from an exported disk to an image.

It is uploaded as it is read, where that can be; else it is copied into a file
first, as Nova does.
"""

from collections import abc
import contextlib

from nova import conf as nova_conf
from nova.privsep import utils as privsep_utils
from oslo_log import log as logging

from nova_quiesce.copy import convert
from nova_quiesce.copy import disk_export
from nova_quiesce.copy import errors
from nova_quiesce.copy import monitor
from nova_quiesce.copy import streamed
from nova_quiesce import exception

LOG = logging.getLogger(__name__)
CONF = nova_conf.CONF

#: Looks up the image that is made.
ShowImage = abc.Callable[[], object]


def can_upload(image_format: str) -> bool:
    """Tell whether :class:`Upload` makes images of a format, as wanted.

    :param image_format: Glance's name of it
    """
    # Nova limits uploads, too. What waits for its turn had better be copied
    # then, so that the job, and what the guest overwrites, does not wait.
    return (CONF.quiesce.direct_upload and
            not CONF.compute.max_concurrent_disk_ops and
            image_format in streamed.FORMATS and
            not _is_compressed(image_format))


def to_file(export: disk_export.DiskExport, target: str, image_format: str,
            show_image: ShowImage) -> None:
    """Copy an exported disk into a file.

    :param export: the disk's
    :param target: the file to write
    :param image_format: Glance's name of its format
    :param show_image: looks up the image that is made of it
    :raises DiskNotCopied: the disk could not be copied
    """
    with _explained(export.disk), _watch(export, show_image) as watch:
        convert.convert(
            convert.export_url(export.place.socket, export.name), target,
            image_format, _is_compressed(image_format),
            privsep_utils.supports_direct_io(CONF.instances_path), watch)


class Upload:
    """A disk's image, to be read once, from its beginning to its end.

    :param export: the disk's, which is closed with the upload
    :param image_format: Glance's name of its format
    :param show_image: looks up the image that is made of it
    :raises DiskNotCopied: the disk cannot be read; the export stays open
    """

    def __init__(self, export: disk_export.DiskExport, image_format: str,
                 show_image: ShowImage) -> None:
        self._disk = export.disk
        with contextlib.ExitStack() as undo:
            watch = undo.enter_context(_watch(export, show_image))
            with _explained(export.disk):
                self._image = undo.enter_context(contextlib.closing(
                    streamed.StreamedImage(
                        streamed.command(
                            export.place.socket, export.name, image_format),
                        watch, export.end)))
            self._resources = undo.pop_all()
        self._export = export

    def read(self, size: int) -> bytes:
        """Read on.

        :param size: how many bytes at most
        :raises DiskNotCopied: the disk cannot be read
        """
        with _explained(self._disk):
            return self._image.read(size)

    def check(self, uploaded: object) -> None:
        """See that what was uploaded is the whole image.

        Nova repeats a request to Glance that broke off, and what was read for
        the first is no part of the second.

        :param uploaded: how long Glance says the image is, in bytes
        :raises DiskNotCopied: it is not all there
        """
        with _explained(self._disk):
            if isinstance(uploaded, int) and uploaded != self._image.length:
                raise errors.CopyError(
                    'Glance has %d bytes of an image of %d' % (
                        uploaded, self._image.length))

    def close(self) -> None:
        """End the backup job, and whatever belongs to it."""
        with contextlib.ExitStack() as ending:
            ending.callback(self._export.close)
            ending.callback(self._resources.close)


def _is_compressed(image_format: str) -> bool:
    return bool(CONF.libvirt.snapshot_compression and
                image_format == 'qcow2')


def _watch(export: disk_export.DiskExport,
           show_image: ShowImage) -> monitor.CopyMonitor:
    return monitor.CopyMonitor(
        export.disk.state, export.place, show_image, export.disk.instance)


@contextlib.contextmanager
def _explained(disk: disk_export.Disk) -> abc.Iterator[None]:
    try:
        yield
    except errors.CopyError as error:
        # Its text names paths of the host, which are not for tenants.
        LOG.error('The disk was not copied: %s', error,
                  instance=disk.instance)
        # Where the domain is gone, that is what Nova wants to hear.
        disk.state()
        raise exception.DiskNotCopied() from error
