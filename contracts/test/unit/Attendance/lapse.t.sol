// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";
import {AttendanceAttend} from "./attend.t.sol";

abstract contract AttendanceLapse is AttendanceAttend {
    function test_lapse__of_the_committee__docks_the_absent_alone() public {
        _joinAll();
        (, attendedId) = _disputed(10 ether);
        _attend(1, IDisputes.Outcome.Guilty);
        skip(121);
        uint64 epoch = verifiers.currentEpoch();
        address[] memory absent = new address[](1);
        absent[0] = judges[2];
        vm.expectEmit();
        emit IAttendance.RoundLapsed(2, 1, IDisputes.Round.Committee, epoch, absent);
        disputes.escalate(attendedId);
        assertTrue(attendance.isDocked(epoch, judges[2]));
        assertFalse(attendance.isDocked(epoch, judges[1]));
        // The challenger had no seat.
        assertFalse(attendance.isDocked(epoch, judges[0]));
        assertFalse(attendance.isDocked(epoch + 1, judges[2]));
    }

    function test_lapse__votes_that_differ__dock_nobody() public {
        _joinAll();
        IDisputes.Claim memory claim;
        (claim, attendedId) = _disputed(10 ether);
        skip(121);
        disputes.escalate(attendedId);
        _attend(1, IDisputes.Outcome.Guilty);
        _attend(2, IDisputes.Outcome.Innocent);
        skip(121);
        disputes.expire(claim);
        assertFalse(attendance.isDocked(verifiers.currentEpoch(), judges[1]));
        assertFalse(attendance.isDocked(verifiers.currentEpoch(), judges[2]));
    }

    function test_lapse__of_a_drawn_committee__docks_its_members_alone() public {
        _registerModel(500);
        _joinProvider();
        _joinVerifiers(20);
        _fundPayer(100 ether);
        (, attendedId) = _disputed(10 ether);
        uint112 seats = verifiers.committeePanel(disputes.dispute(1).epoch, judges[0]).seats;
        skip(121);
        disputes.escalate(attendedId);
        uint64 epoch = verifiers.currentEpoch();
        for (uint256 i; i < 20; ++i) {
            assertEq(attendance.isDocked(epoch, judges[i]), seats >> i & 1 == 1);
        }
    }

    function test_lapse__with_a_verdict__docks_nobody() public {
        _joinAll();
        IDisputes.Claim memory claim;
        (claim, attendedId) = _disputed(10 ether);
        _verdict(attendedId, IDisputes.Outcome.Guilty);
        skip(61);
        disputes.execute(claim);
        assertEq(attendance.lastSequence(), 0);
    }

    function test_lapse__by_another__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IAttendance.NotAllowed.selector, address(this)));
        attendance.lapse(1);
    }
}
