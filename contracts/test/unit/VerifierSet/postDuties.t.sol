// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract VerifierSetPostDuties is Network {
    function test_postDuties__once_while_open__by_the_seat_s_holder() public {
        _joinVerifiers();
        uint64 epoch = verifiers.currentEpoch();
        vm.startPrank(judges[1]);
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.DutiesClosed.selector, epoch));
        verifiers.postDuties(epoch, 1, "root", 1);
        skip(10);
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.NotMember.selector, judges[1], epoch));
        verifiers.postDuties(epoch, 0, "root", 1);
        vm.expectRevert(IVerifierSet.ZeroRoot.selector);
        verifiers.postDuties(epoch, 1, 0, 1);
        verifiers.postDuties(epoch, 1, "root", 1);
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.AlreadyPosted.selector, judges[1], epoch));
        verifiers.postDuties(epoch, 1, "root", 1);
        vm.stopPrank();
        assertEq(verifiers.dutyRoot(epoch, judges[1]), "root");
        assertEq(verifiers.dutyRootsPosted(epoch), 1);
        skip(30);
        vm.prank(judges[2]);
        vm.expectRevert(abi.encodeWithSelector(IVerifierSet.DutiesClosed.selector, epoch));
        verifiers.postDuties(epoch, 2, "root", 1);
    }
}
